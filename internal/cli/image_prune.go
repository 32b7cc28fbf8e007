package cli

import (
	"github.com/spf13/cobra"

	"banger.dev/banger"
)

func newImagePruneCommand(a *app) *cobra.Command {
	opts := &systemPruneOptions{kind: string(banger.CacheImage)}
	cmd := &cobra.Command{
		Use:   "prune [flags]",
		Short: "Remove images that have no name and that no VM needs",
		Long: `Remove images that have no name any more, such as one whose name a newer one has got, and that no VM needs. With --all
every image that no VM needs: those from a registry or of the catalog are then fetched again, images of your own are not.
What a VM needs stays, also that of another home that shares the cache.

  banger image prune
  banger image prune --all --force`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return a.runSystemPrune(cmd, opts) },
	}
	cmd.Flags().BoolVarP(&opts.all, "all", "a", false, "also those that have a name")
	cmd.Flags().BoolVarP(&opts.force, "force", "f", false, "do not ask first")
	return cmd
}
