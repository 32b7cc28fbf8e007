package cli

import (
	"github.com/spf13/cobra"
)

func newDaemonCommand(a *app) *cobra.Command {
	cmd := newGroup("daemon", "Look at and control the daemon behind banger", `Look at and control the daemon behind banger. It is started by itself when a verb needs it, and leaves by itself
when there has been nothing to do for a while; VMs and the commands in them do not depend on it.

  banger daemon status
  banger daemon logs`)
	cmd.AddCommand(newDaemonStartCommand(a), newDaemonStopCommand(a), newDaemonStatusCommand(a), newDaemonLogsCommand(a))
	return cmd
}
