package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
)

func newKernelPullCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "pull RELEASE",
		Short: "Get the newest kernel of a Debian or Ubuntu release",
		Long: `Get the newest kernel for virtual machines of a Debian or Ubuntu release from its archive, and print its digest. The
packages are verified with the distribution's keys. VMs that use an older one keep it.

RELEASE is debian or ubuntu, or one of them with a suite. That of debian is what VMs get that name no kernel.

  banger kernel pull debian
  banger kernel pull ubuntu:noble`,
		Args:              between(1, 1, "RELEASE, such as debian"),
		ValidArgsFunction: cobra.FixedCompletions([]string{"debian", "ubuntu"}, cobra.ShellCompDirectiveNoFileComp),
		RunE:              func(cmd *cobra.Command, args []string) error { return a.runKernelPull(cmd.Context(), args[0]) },
	}
}

func (a *app) runKernelPull(ctx context.Context, release string) error {
	d, err := a.connect(ctx)
	if err != nil {
		return err
	}
	progress := a.newProgress()
	defer progress.end()
	op, err := d.PullKernel(ctx, api.KernelPullRequest{Release: release, Leash: true}, progress.report)
	if err != nil {
		return err
	}
	if op.Kernel == nil {
		return banger.Errorf(banger.KindInternal, "the daemon has pulled %s but does not describe it", op.Target)
	}
	if !op.Changed {
		a.remark("the newest kernel of %s is here already", release)
	}
	return a.printKernel(*op.Kernel)
}

func (a *app) printKernel(k banger.Kernel) error {
	if a.json {
		return a.printJSON(k)
	}
	_, err := fmt.Fprintln(a.Stdout, k.Digest)
	return err
}
