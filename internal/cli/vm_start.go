package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
	"banger.dev/banger/internal/client"
)

// waitFor says when a start is done.
type waitFor string

const (
	waitReady waitFor = "ready"
	waitInit  waitFor = "init"
)

type startOptions struct {
	wait       waitFor
	timeout    time.Duration
	overcommit bool
	sync       []string
	targets    targetOptions
}

func (o startOptions) request() api.StartRequest {
	return api.StartRequest{Wait: string(o.wait), TimeoutMS: o.timeout.Milliseconds(), Overcommit: o.overcommit}
}

// addBootFlags are the flags of start and restart that say how it boots.
func (o *startOptions) addBootFlags(a *app, cmd *cobra.Command) {
	cmd.Flags().Var(choice(&o.wait, waitReady, waitInit), "wait", "until a command can be run, or until the image's init is done too")
	cmd.Flags().BoolVar(&o.overcommit, "overcommit", false, "also if the running VMs then have more memory than this host")
	a.addSyncFlag(cmd.Flags(), &o.sync, "what it was made with otherwise")
	_ = cmd.RegisterFlagCompletionFunc("sync", completeSync)
	_ = cmd.RegisterFlagCompletionFunc("wait", cobra.FixedCompletions([]string{"ready", "init"}, cobra.ShellCompDirectiveNoFileComp))
}

func newStartCommand(a *app) *cobra.Command {
	opts := &startOptions{wait: waitReady, targets: targetOptions{states: []banger.State{banger.StateStopped, banger.StateBroken}}}
	cmd := &cobra.Command{
		Use:        "start [flags] NAME...",
		SuggestFor: []string{"up", "boot"},
		Short:      "Start VMs",
		Long: `Start VMs and wait until a command can be run in each. One that runs already is left as it is. It is refused if
the running VMs would then have more memory than this host. Ctrl-C gives the boot up.

  banger vm start web
  banger vm start --wait=init web      until systemd has started the services too
  banger vm start --label team=blue    every stopped VM with that label`,
		Args:              opts.targets.names(),
		ValidArgsFunction: a.completeVMs(banger.StateStopped),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runStart(cmd, opts, args)
		},
	}
	opts.addBootFlags(a, cmd)
	cmd.Flags().Var(&durationValue{&opts.timeout}, "timeout", "how long the boot may take, such as 90s")
	opts.targets.addFlags(a, cmd)
	return cmd
}

func (a *app) runStart(cmd *cobra.Command, opts *startOptions, names []string) error {
	return a.eachOperation(cmd, &opts.targets, names, "running", func(ctx context.Context, d *client.Client, ref string, report banger.ProgressFunc) (api.Operation, error) {
		op, err := d.StartVM(ctx, ref, opts.request(), report)
		return op, a.syncStarted(ctx, op, err, opts.sync)
	})
}
