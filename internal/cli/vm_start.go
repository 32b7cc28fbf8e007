package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
)

// waitFor says when a start is done.
type waitFor string

const (
	waitReady waitFor = "ready"
	waitInit  waitFor = "init"
)

type startOptions struct {
	wait    waitFor
	timeout time.Duration
}

func (o startOptions) request() api.StartRequest {
	return api.StartRequest{Wait: string(o.wait), TimeoutMS: o.timeout.Milliseconds()}
}

func newStartCommand(a *app) *cobra.Command {
	opts := &startOptions{wait: waitReady}
	cmd := &cobra.Command{
		Use:   "start [flags] NAME...",
		Short: "Start VMs",
		Long: `Start VMs and wait until a command can be run in each. One that runs already is left as it is.

  banger vm start web
  banger vm start --wait=init web      until systemd has started the services too`,
		Args:              someVMs(),
		ValidArgsFunction: a.completeVMs(banger.StateStopped),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runStart(cmd, opts, args)
		},
	}
	cmd.Flags().Var(choice(&opts.wait, waitReady, waitInit), "wait", "until a command can be run, or until the image's init is done too")
	cmd.Flags().Var(&durationValue{&opts.timeout}, "timeout", "how long the boot may take, such as 90s")
	return cmd
}

func (a *app) runStart(cmd *cobra.Command, opts *startOptions, refs []string) error {
	d, err := a.connect(cmd.Context())
	if err != nil {
		return err
	}
	progress := a.newProgress()
	defer progress.end()
	report := progress.report
	if len(refs) > 1 {
		report = nil // several at a time have no one progress
	}
	return a.eachTarget(cmd, refs, "running", func(ctx context.Context, ref string) (api.VerbReply, error) {
		op, err := d.StartVM(ctx, ref, opts.request(), report)
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
