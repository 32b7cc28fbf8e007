package cli

import (
	"context"

	"github.com/spf13/cobra"

	"banger.dev/banger/internal/api"
	"banger.dev/banger/internal/client"
)

type deleteOptions struct {
	force   bool
	targets targetOptions
}

func newDeleteCommand(a *app) *cobra.Command {
	opts := &deleteOptions{}
	cmd := &cobra.Command{
		Use:        "delete [flags] NAME...",
		Aliases:    []string{"rm"},
		SuggestFor: []string{"remove", "destroy", "terminate"},
		Short:      "Delete VMs and their disks",
		Long: `Delete VMs and their disks for good. One that runs is refused unless --force is given, which kills it first.

  banger vm delete web
  banger vm delete --force --all                   every VM there is
  banger vm delete --force --label team=blue       every one with that label`,
		Args:              opts.targets.names(),
		ValidArgsFunction: a.completeVMs(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runDelete(cmd, opts, args)
		},
	}
	cmd.Flags().BoolVarP(&opts.force, "force", "f", false, "kill a VM that runs")
	opts.targets.addFlags(a, cmd)
	return cmd
}

func (a *app) runDelete(cmd *cobra.Command, opts *deleteOptions, names []string) error {
	return a.eachChosen(cmd, &opts.targets, names, "deleted", func(ctx context.Context, d *client.Client, ref string) (api.VerbReply, error) {
		return d.DeleteVM(ctx, ref, opts.force)
	})
}
