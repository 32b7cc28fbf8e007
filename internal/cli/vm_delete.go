package cli

import (
	"context"

	"github.com/spf13/cobra"

	"banger.dev/banger/internal/api"
)

type deleteOptions struct {
	force bool
}

func newDeleteCommand(a *app) *cobra.Command {
	opts := &deleteOptions{}
	cmd := &cobra.Command{
		Use:   "delete [flags] NAME...",
		Short: "Delete VMs and their disks",
		Long: `Delete VMs and their disks for good. One that runs is refused unless --force is given, which kills it first.

  banger vm delete web
  banger vm delete --force $(banger vm list -q)      every VM there is`,
		Args:              someVMs(),
		ValidArgsFunction: a.completeVMs(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runDelete(cmd, opts, args)
		},
	}
	cmd.Flags().BoolVarP(&opts.force, "force", "f", false, "kill a VM that runs")
	return cmd
}

func (a *app) runDelete(cmd *cobra.Command, opts *deleteOptions, refs []string) error {
	d, err := a.connect(cmd.Context())
	if err != nil {
		return err
	}
	return a.eachTarget(cmd, refs, "deleted", func(ctx context.Context, ref string) (api.VerbReply, error) {
		return d.DeleteVM(ctx, ref, opts.force)
	})
}
