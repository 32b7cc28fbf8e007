package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
)

type stopOptions struct {
	timeout time.Duration
}

func newStopCommand(a *app) *cobra.Command {
	opts := &stopOptions{}
	cmd := &cobra.Command{
		Use:   "stop [flags] NAME...",
		Short: "Shut VMs down",
		Long: `Shut VMs down: the guest powers off in its own time, and is killed if that takes too long.
What is on its disks stays. One that is stopped already is left as it is.

  banger vm stop web
  banger vm stop --timeout 60s web db`,
		Args:              someVMs(),
		ValidArgsFunction: a.completeVMs(banger.StateRunning),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runStop(cmd, opts, args)
		},
	}
	cmd.Flags().Var(&durationValue{&opts.timeout}, "timeout", "how long the guest may take before it is killed (default 10s)")
	return cmd
}

func (a *app) runStop(cmd *cobra.Command, opts *stopOptions, refs []string) error {
	d, err := a.connect(cmd.Context())
	if err != nil {
		return err
	}
	return a.eachTarget(cmd, refs, "stopped", func(ctx context.Context, ref string) (api.VerbReply, error) {
		return d.StopVM(ctx, ref, api.StopRequest{TimeoutMS: opts.timeout.Milliseconds()})
	})
}
