package cli

import (
	"context"

	"github.com/spf13/cobra"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
	"banger.dev/banger/internal/client"
)

func newKillCommand(a *app) *cobra.Command {
	targets := &targetOptions{states: []banger.State{banger.StateRunning, banger.StatePaused}}
	cmd := &cobra.Command{
		Use:   "kill [flags] NAME...",
		Short: "Stop VMs at once, without asking the guest",
		Long: `Stop VMs at once, as if the power failed: what the guest had not written to its disks is lost.
One that is stopped already is left as it is.

  banger vm kill web
  banger vm kill --all`,
		Args:              targets.names(),
		ValidArgsFunction: a.completeVMs(banger.StateRunning, banger.StatePaused),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.eachChosen(cmd, targets, args, "stopped", func(ctx context.Context, d *client.Client, ref string) (api.VerbReply, error) {
				return d.KillVM(ctx, ref)
			})
		},
	}
	targets.addFlags(a, cmd)
	return cmd
}
