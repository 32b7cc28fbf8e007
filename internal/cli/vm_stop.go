package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
	"banger.dev/banger/internal/client"
)

type stopOptions struct {
	timeout time.Duration
	targets targetOptions
}

func newStopCommand(a *app) *cobra.Command {
	opts := &stopOptions{targets: targetOptions{states: []banger.State{banger.StateRunning, banger.StatePaused}}}
	cmd := &cobra.Command{
		Use:        "stop [flags] NAME...",
		SuggestFor: []string{"halt", "shutdown", "poweroff", "down"},
		Short:      "Shut VMs down",
		Long: `Shut VMs down: the guest powers off in its own time, and is killed if that takes too long.
What is on its disks stays. One that is stopped already is left as it is, one that is paused goes on first.

  banger vm stop web
  banger vm stop --timeout 60s web db
  banger vm stop --all`,
		Args:              opts.targets.names(),
		ValidArgsFunction: a.completeVMs(banger.StateRunning, banger.StatePaused),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runStop(cmd, opts, args)
		},
	}
	cmd.Flags().Var(&durationValue{&opts.timeout}, "timeout", "how long the guest may take before it is killed (default 10s)")
	opts.targets.addFlags(a, cmd)
	return cmd
}

func (a *app) runStop(cmd *cobra.Command, opts *stopOptions, names []string) error {
	return a.eachChosen(cmd, &opts.targets, names, "stopped", func(ctx context.Context, d *client.Client, ref string) (api.VerbReply, error) {
		return d.StopVM(ctx, ref, api.StopRequest{TimeoutMS: opts.timeout.Milliseconds()})
	})
}
