package cli

import (
	"context"

	"github.com/spf13/cobra"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
)

func newImageCommitCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "commit VM NAME",
		Short: "Make an image of what a stopped VM has on its system disk",
		Long: `Make an image of what a stopped VM has on its system disk, and print its digest. Environment, directory, user and command
are those of the VM's own image. What is on the work disk, such as /root and /home, is no part of it. The VM stays as it is.

An image that had that name loses it; VMs that use it keep it.

  banger vm stop box
  banger image commit box mine
  banger run --image mine`,
		Args:              between(2, 2, "VM, its name or id, and NAME, the name of the image"),
		ValidArgsFunction: a.completeVMs(banger.StateStopped),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runImageCommit(cmd.Context(), args[0], args[1])
		},
	}
}

func (a *app) runImageCommit(ctx context.Context, ref, name string) error {
	d, err := a.connect(ctx)
	if err != nil {
		return err
	}
	progress := a.newProgress()
	img, err := imageOf(d.CommitImage(ctx, ref, api.CommitRequest{Name: name, Leash: true}, progress.report))
	progress.end()
	if err != nil {
		return err
	}
	return a.printImage(img)
}
