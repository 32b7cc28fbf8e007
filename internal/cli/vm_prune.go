package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
)

type pruneOptions struct {
	force  bool
	labels labelSelector
}

func newPruneCommand(a *app) *cobra.Command {
	opts := &pruneOptions{}
	cmd := &cobra.Command{
		Use:   "prune [flags]",
		Short: "Delete all stopped VMs",
		Long: `Delete all stopped VMs and their disks for good, after asking. None that runs or is paused is touched.

  banger vm prune
  banger vm prune --force --label team=blue`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return a.runPrune(cmd, opts) },
	}
	cmd.Flags().BoolVarP(&opts.force, "force", "f", false, "do not ask")
	a.addLabelFilter(cmd, &opts.labels)
	return cmd
}

func (a *app) runPrune(cmd *cobra.Command, opts *pruneOptions) error {
	d, err := a.connect(cmd.Context())
	if err != nil {
		return err
	}
	vms, err := d.ListVMs(cmd.Context())
	if err != nil {
		return err
	}
	vms = slices.DeleteFunc(vms, func(vm banger.VM) bool { return vm.State != banger.StateStopped || !opts.labels.matches(vm) })
	if len(vms) == 0 {
		a.remark("there is no stopped VM")
	} else if !opts.force {
		if err := a.confirm(cmd, fmt.Sprintf("Delete %s with all that is on their disks?", namesOf(vms))); err != nil {
			return err
		}
	}
	ids := make([]string, len(vms))
	for i, vm := range vms {
		ids[i] = vm.ID
	}
	// Without force: one that was started meanwhile is not touched.
	return a.eachTarget(cmd, ids, "deleted", func(ctx context.Context, id string) (api.VerbReply, error) {
		return d.DeleteVM(ctx, id, false)
	})
}

func namesOf(vms []banger.VM) string {
	names := make([]string, len(vms))
	for i, vm := range vms {
		names[i] = vm.Name
	}
	return strings.Join(names, ", ")
}
