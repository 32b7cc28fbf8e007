package cli

import (
	"context"

	"github.com/spf13/cobra"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
	"banger.dev/banger/internal/client"
)

type resetOptions struct {
	force   bool
	targets targetOptions
}

func newResetCommand(a *app) *cobra.Command {
	opts := &resetOptions{}
	cmd := &cobra.Command{
		Use:   "reset [flags] NAME...",
		Short: "Set the system of VMs back to their image",
		Long: `Set the system of VMs back to their image: whatever was installed or changed outside /root and /home is gone for
good, and what is in there, the work disk, stays. The VM is stopped afterwards. One that runs is refused unless
--force is given, which kills it first. It also mends a VM whose system disk is gone.

  banger vm stop web
  banger vm reset web
  banger vm start web`,
		Args:              opts.targets.names(),
		ValidArgsFunction: a.completeVMs(banger.StateStopped, banger.StateBroken),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.eachOperation(cmd, &opts.targets, args, "reset", opts.reset)
		},
	}
	cmd.Flags().BoolVarP(&opts.force, "force", "f", false, "kill a VM that runs")
	opts.targets.addFlags(a, cmd)
	return cmd
}

func (o *resetOptions) reset(ctx context.Context, d *client.Client, ref string, report banger.ProgressFunc) (api.Operation, error) {
	return d.ResetVM(ctx, ref, api.ResetRequest{Force: o.force}, report)
}
