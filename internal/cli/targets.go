package cli

import (
	"context"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"banger.dev/banger/internal/api"
)

// maxAtOnce bounds how many VMs one line acts on at a time.
const maxAtOnce = 8

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
	var group errgroup.Group
	group.SetLimit(maxAtOnce)
	go func() {
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
		if errs[i] != nil {
			if a.signals.interrupted() {
				return errs[i]
			}
			if first == 0 {
				first = exitCode(cmd, errs[i])
			}
			a.printError(errs[i])
			continue
		}
		all = append(all, replies[i])
		a.sayDone(replies[i], done)
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
