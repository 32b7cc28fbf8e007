package cli

import (
	"github.com/spf13/cobra"

	"banger.dev/banger"
)

func newKillCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "kill NAME...",
		Short: "Stop VMs at once, without asking the guest",
		Long: `Stop VMs at once, as if the power failed: what the guest had not written to its disks is lost.
One that is stopped already is left as it is.

  banger vm kill web`,
		Args:              someVMs(),
		ValidArgsFunction: a.completeVMs(banger.StateRunning, banger.StatePaused),
		RunE:              a.runKill,
	}
}

func (a *app) runKill(cmd *cobra.Command, refs []string) error {
	d, err := a.connect(cmd.Context())
	if err != nil {
		return err
	}
	return a.eachTarget(cmd, refs, "stopped", d.KillVM)
}
