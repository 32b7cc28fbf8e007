package cli

import (
	"context"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

func newKernelShowCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "show KERNEL",
		Short: "Show everything that is known of a kernel",
		Long: `Show everything that is known of a kernel that is here: what it was made of, where its files are, which VMs boot it and
which images have it for their VMs.

  banger kernel show debian
  banger kernel show -o json mine`,
		Args:              between(1, 1, "KERNEL, its name, release or digest"),
		ValidArgsFunction: a.completeKernels,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.runKernelShow(cmd.Context(), args[0]) },
	}
}

func (a *app) runKernelShow(ctx context.Context, ref string) error {
	d, err := a.connect(ctx)
	if err != nil {
		return err
	}
	k, err := d.LookupKernel(ctx, ref)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(k)
	}
	modules := ""
	if k.ModuleCount > 0 {
		modules = strconv.Itoa(k.ModuleCount)
	}
	_, err = io.WriteString(a.Stdout, groupsText([]fact{
		is("name", k.Name),
		is("release", k.Release),
		is("default", yesOrNothing(k.Default)),
		is("digest", k.Digest),
		is("source", k.Source),
		is("source digest", k.SourceDigest),
		is("created", since(&k.Created, time.Now())),
		is("size", k.Size.String()),
		is("modules", modules),
		is("vms", k.VMs...),
		is("images", k.Images...),
	}, []fact{
		is("vmlinux", k.VMLinux),
		is("initramfs", k.Initramfs),
		is("modules disk", k.Modules),
	}))
	return err
}
