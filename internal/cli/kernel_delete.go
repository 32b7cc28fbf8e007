package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

func newKernelDeleteCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:        "delete KERNEL",
		Aliases:    []string{"rm"},
		SuggestFor: []string{"remove"},
		Short:      "Take a name of a kernel away, and with the last one the kernel",
		Long: `Take a name of a kernel away. With its last name, or by its digest, the kernel is deleted. One that a VM uses is refused.

  banger kernel delete mine`,
		Args:              between(1, 1, "KERNEL, its name or digest"),
		ValidArgsFunction: a.completeKernels,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.runKernelDelete(cmd.Context(), args[0]) },
	}
}

func (a *app) runKernelDelete(ctx context.Context, ref string) error {
	d, err := a.connect(ctx)
	if err != nil {
		return err
	}
	k, err := d.DeleteKernel(ctx, ref)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(k)
	}
	_, err = fmt.Fprintln(a.Stdout, ref)
	return err
}
