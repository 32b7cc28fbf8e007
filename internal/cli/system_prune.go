package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"banger.dev/banger"
)

// systemPruneOptions are of system prune, and of image prune.
type systemPruneOptions struct {
	kind  string // of a banger.DiskEntry; "": of every kind
	all   bool
	force bool
}

func newSystemPruneCommand(a *app) *cobra.Command {
	opts := &systemPruneOptions{}
	cmd := &cobra.Command{
		Use:   "prune [flags]",
		Short: "Remove images, kernels and downloads that no VM needs",
		Long: `Remove images and kernels that were superseded, downloads that something has been made of, and half-made files. With
--all also the images, kernels and templates that the next VM would be made of; those from an archive are then fetched
again, images of your own are not. What a VM needs stays, also that of another home that shares the cache. VMs are
never removed.

  banger system prune
  banger system prune --all --force`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return a.runSystemPrune(cmd, opts) },
	}
	cmd.Flags().BoolVar(&opts.all, "all", false, "also what the next VM would be made of")
	cmd.Flags().BoolVarP(&opts.force, "force", "f", false, "do not ask first")
	return cmd
}

func (a *app) runSystemPrune(cmd *cobra.Command, opts *systemPruneOptions) error {
	ctx := cmd.Context()
	d, err := a.connect(ctx)
	if err != nil {
		return err
	}
	if !opts.force {
		would, err := d.Prune(ctx, opts.kind, opts.all, true)
		if err != nil {
			return err
		}
		if len(would.Entries) == 0 {
			return a.printPruned(would)
		}
		if err := a.confirmPrune(cmd, would); err != nil {
			return err
		}
	}
	pruned, err := d.Prune(ctx, opts.kind, opts.all, false)
	if err != nil {
		return err
	}
	return a.printPruned(pruned)
}

// confirmPrune shows what would go, and asks.
func (a *app) confirmPrune(cmd *cobra.Command, would banger.Pruned) error {
	var total banger.Bytes
	for _, e := range would.Entries {
		total += e.Bytes
		a.remark("%s %s (%s)", e.Kind, e.Name, e.Bytes)
	}
	return a.confirm(cmd, fmt.Sprintf("Remove these, %s in all?", total))
}

func (a *app) printPruned(p banger.Pruned) error {
	failed := false
	for _, e := range p.Entries {
		failed = failed || !e.Removed
	}
	switch {
	case a.json:
		if err := a.printJSON(p); err != nil {
			return err
		}
	default:
		a.sayPruned(p)
	}
	if failed {
		return &exitError{code: exitFailed}
	}
	return nil
}

func (a *app) sayPruned(p banger.Pruned) {
	for _, e := range p.Entries {
		if e.Removed {
			a.say(fmt.Sprintf("%s %s: removed (%s)", e.Kind, e.Name, e.Bytes))
			continue
		}
		a.printError(banger.Errorf(banger.KindConflict, "%s %s is still there: %s", e.Kind, e.Name, e.Error))
	}
	a.say(p.Freed.String() + " freed")
}
