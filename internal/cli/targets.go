package cli

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
	"banger.dev/banger/internal/client"
)

// targetOptions say on which VMs a verb acts, where they are not named.
type targetOptions struct {
	all    bool
	labels labelSelector
	states []banger.State // that the verb is for; none: any
}

func (o *targetOptions) addFlags(a *app, cmd *cobra.Command) {
	o.addAll(cmd)
	cmd.Flags().Var(&o.labels, "label", "every VM with this label, instead of names (may be repeated: with all of them)")
	_ = cmd.RegisterFlagCompletionFunc("label", a.completeLabels)
}

func (o *targetOptions) addAll(cmd *cobra.Command) {
	all := "every VM, instead of names"
	if len(o.states) > 0 {
		words := make([]string, len(o.states))
		for i, state := range o.states {
			words[i] = string(state)
		}
		all = "every VM that is " + strings.Join(words, " or ") + ", instead of names"
	}
	cmd.Flags().BoolVarP(&o.all, "all", "a", false, all)
}

// names wants names, or flags that choose.
func (o *targetOptions) names() cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch chosen := o.all || len(o.labels) > 0; {
		case len(args) == 0 && !chosen:
			return usageError(cmd, "%s needs the name of a VM or of several, or --all", verbOf(cmd))
		case len(args) > 0 && chosen:
			return usageError(cmd, "%s takes names, or flags that choose VMs, and not both: %q is a name", verbOf(cmd), args[0])
		}
		return nil
	}
}

// choose gives the names that were typed, or the ids of the VMs that the flags
// choose: a name may be another VM's by the time the verb comes to it.
func (a *app) choose(ctx context.Context, d *client.Client, o *targetOptions, names []string) ([]string, error) {
	if len(names) > 0 {
		return names, nil
	}
	vms, err := d.ListVMs(ctx)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, vm := range vms {
		if o.labels.matches(vm) && (len(o.states) == 0 || slices.Contains(o.states, vm.State)) {
			ids = append(ids, vm.ID)
		}
	}
	if len(ids) == 0 {
		a.remark("there is no such VM")
	}
	return ids, nil
}

// maxAtOnce bounds how many VMs one line acts on at a time.
const maxAtOnce = 8

// eachChosen is eachTarget for the VMs that are named or chosen.
func (a *app) eachChosen(cmd *cobra.Command, targets *targetOptions, names []string, done string,
	verb func(context.Context, *client.Client, string) (api.VerbReply, error)) error {
	d, err := a.connect(cmd.Context())
	if err != nil {
		return err
	}
	refs, err := a.choose(cmd.Context(), d, targets, names)
	if err != nil {
		return err
	}
	return a.eachTarget(cmd, refs, done, func(ctx context.Context, ref string) (api.VerbReply, error) { return verb(ctx, d, ref) })
}

// eachTarget does verb to every VM of refs, several at a time, and reports in
// the order of refs: done names what is now true on stdout, a failure is a line
// on stderr. With -o json stdout gets one array of replies instead. The error
// is the first failure's exit code.
func (a *app) eachTarget(cmd *cobra.Command, refs []string, done string, verb func(context.Context, string) (api.VerbReply, error)) error {
	refs = unique(refs)
	replies := make([]api.VerbReply, len(refs))
	errs := make([]error, len(refs))
	finished := make([]chan struct{}, len(refs))
	for i := range refs {
		finished[i] = make(chan struct{})
	}
	begun := make(chan struct{})
	var group errgroup.Group
	group.SetLimit(maxAtOnce)
	go func() {
		defer close(begun)
		for i, ref := range refs {
			group.Go(func() error {
				defer close(finished[i])
				replies[i], errs[i] = verb(cmd.Context(), ref)
				return nil
			})
		}
	}()

	first := 0
	all := []api.VerbReply{}
	for i := range refs {
		<-finished[i]
		switch {
		case errs[i] == nil:
			all = append(all, replies[i])
			a.sayDone(replies[i], done)
			continue
		case a.signals.interrupted():
			<-begun
			_ = group.Wait() // what was begun is being cancelled
			return errs[i]
		case first == 0:
			first = exitCode(cmd, errs[i])
		}
		a.printError(errs[i])
	}
	if a.json {
		if err := a.printJSON(all); err != nil {
			return err
		}
	}
	if first != 0 {
		return &exitError{code: first}
	}
	return nil
}

// eachOperation is eachTarget for a verb that is an operation: of one VM its
// progress is shown.
func (a *app) eachOperation(cmd *cobra.Command, targets *targetOptions, names []string, done string,
	verb func(context.Context, *client.Client, string, banger.ProgressFunc) (api.Operation, error)) error {
	d, err := a.connect(cmd.Context())
	if err != nil {
		return err
	}
	refs, err := a.choose(cmd.Context(), d, targets, names)
	if err != nil {
		return err
	}
	progress := a.newProgress()
	defer progress.end()
	report := banger.ProgressFunc(progress.report)
	if len(refs) > 1 {
		report = nil // several at a time have no one progress
	}
	return a.eachTarget(cmd, refs, done, func(ctx context.Context, ref string) (api.VerbReply, error) {
		op, err := verb(ctx, d, ref, report)
		progress.end()
		return verbReply(op), err
	})
}

// verbReply is what a verb that is an operation has done.
func verbReply(op api.Operation) api.VerbReply {
	reply := api.VerbReply{Changed: op.Changed, Note: op.Note}
	if op.Result != nil {
		reply.VM = op.Result.VM
	}
	return reply
}

// sayDone is one line such as "web: stopped" or "web: already stopped".
func (a *app) sayDone(reply api.VerbReply, done string) {
	if a.json {
		return
	}
	line := reply.VM.Name + ": "
	if !reply.Changed {
		line += "already "
	}
	line += done
	if reply.Note != "" {
		line += " (" + reply.Note + ")"
	}
	a.say(line)
}

func unique(refs []string) []string {
	seen := map[string]bool{}
	var out []string
	for _, ref := range refs {
		if !seen[ref] {
			out = append(out, ref)
		}
		seen[ref] = true
	}
	return out
}
