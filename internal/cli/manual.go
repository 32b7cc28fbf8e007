package cli

import "github.com/spf13/cobra"

// Documented is the tree of all verbs, for writing its manual. It is not for
// running: Run is.
func Documented() *cobra.Command {
	return newRootCommand(&app{}, nil)
}
