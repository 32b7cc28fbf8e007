package cli

import "github.com/spf13/cobra"

func newSystemCommand(a *app) *cobra.Command {
	cmd := newGroup("system", "See what banger takes on disk, and remove what nothing needs", `See what banger takes on disk, and remove what nothing needs.

  banger system df
  banger system prune`)
	cmd.AddCommand(newDfCommand(a), newSystemPruneCommand(a))
	return cmd
}
