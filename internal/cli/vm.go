package cli

import "github.com/spf13/cobra"

func newVMCommand(a *app) *cobra.Command {
	cmd := newGroup("vm", "Make, use and delete virtual machines", `Make, use and delete virtual machines.

A VM is named by its name, its id, or four or more of the first digits of its id. Verbs that take several names
also take --all and --label; each VM has a line of its own, and the exit code is the first failure's. With -o json
they print one array of what was done; errors go to stderr.

  banger vm create --name web --memory 2GiB
  banger vm start web
  banger vm exec web -- uname -a
  banger vm delete --force web`)
	cmd.SuggestFor = []string{"container", "containers", "machine"}
	cmd.AddCommand(
		newRunCommand(a), newCreateCommand(a), newStartCommand(a), newStopCommand(a), newKillCommand(a),
		newRestartCommand(a), newPauseCommand(a), newResumeCommand(a), newResetCommand(a), newSetCommand(a), newWaitCommand(a), newPruneCommand(a),
		newDeleteCommand(a), newListCommand(a), newShowCommand(a), newExecCommand(a), newSSHCommand(a),
		newCpCommand(a), newWorkspaceCommand(a), newLogsCommand(a), newPortCommand(a), newPortsCommand(a), newStatsCommand(a),
	)
	return cmd
}
