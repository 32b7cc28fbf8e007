package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
	"banger.dev/banger/internal/client"
)

type restartOptions struct {
	startOptions
	stopTimeout time.Duration
}

func newRestartCommand(a *app) *cobra.Command {
	opts := &restartOptions{startOptions: startOptions{
		wait: waitReady, targets: targetOptions{states: []banger.State{banger.StateRunning, banger.StatePaused}},
	}}
	cmd := &cobra.Command{
		Use:        "restart [flags] NAME...",
		SuggestFor: []string{"reboot"},
		Short:      "Shut VMs down and start them again",
		Long: `Shut VMs down as stop does and start them again as start does: with what was changed of them meanwhile, and a fresh
VMM and agent. One that is stopped is started.

  banger vm restart web
  banger vm restart --timeout 60s --all`,
		Args:              opts.targets.names(),
		ValidArgsFunction: a.completeVMs(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.eachOperation(cmd, &opts.targets, args, "restarted", func(ctx context.Context, d *client.Client, ref string, report banger.ProgressFunc) (api.Operation, error) {
				op, err := opts.restart(ctx, d, ref, report)
				return op, a.syncStarted(ctx, op, err, opts.sync)
			})
		},
	}
	cmd.Flags().Var(&durationValue{&opts.stopTimeout}, "timeout", "how long the guest may take to power off before it is killed (default 10s)")
	cmd.Flags().Var(&durationValue{&opts.timeout}, "boot-timeout", "how long the boot may take, such as 90s")
	opts.addBootFlags(a, cmd)
	opts.targets.addFlags(a, cmd)
	return cmd
}

func (o *restartOptions) restart(ctx context.Context, d *client.Client, ref string, report banger.ProgressFunc) (api.Operation, error) {
	return d.RestartVM(ctx, ref, api.RestartRequest{StopTimeoutMS: o.stopTimeout.Milliseconds(), Start: o.request()}, report)
}
