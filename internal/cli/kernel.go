package cli

import "github.com/spf13/cobra"

func newKernelCommand(a *app) *cobra.Command {
	cmd := newGroup("kernel", "Get and see kernels, with their modules", `Get and see kernels, each with the modules that belong to it.

A kernel is named by a name that it was imported with, by a distribution's release such as debian-trixie, which is the
default one, by its release as uname -r says it, or by its digest or the first digits of that.

  banger kernel list
  banger kernel pull debian:bookworm
  banger kernel import --name mine linux-image-6.12.deb
  banger run --rm --kernel mine -- uname -r`)
	cmd.AddCommand(newKernelPullCommand(a), newKernelListCommand(a), newKernelShowCommand(a), newKernelImportCommand(a), newKernelDeleteCommand(a))
	return cmd
}
