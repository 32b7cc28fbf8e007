package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
)

func newCreateCommand(a *app) *cobra.Command {
	opts := newSpecOptions(a)
	cmd := &cobra.Command{
		Use:   "create [flags]",
		Short: "Make a VM without starting it",
		Long: `Make a VM without starting it, and print its name. The image and the kernel are fetched if need be.

  banger vm create --name web --vcpus 2 --memory 2GiB --env MODE=test
  banger vm start web`,
		Args:              noNameButByFlag,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := opts.complete(cmd); err != nil {
				return err
			}
			return a.runCreate(cmd.Context(), opts)
		},
	}
	opts.addFlags(a, cmd)
	return cmd
}

// noNameButByFlag refuses arguments, of which one is most likely to be a name.
func noNameButByFlag(cmd *cobra.Command, args []string) error {
	if len(args) == 1 && banger.ValidateName(args[0]) == nil {
		return banger.Errorf(banger.KindInvalid, "%s takes no arguments, and %q is one", verbOf(cmd), args[0]).WithNext("%s --name %s", cmd.CommandPath(), args[0])
	}
	return noArguments(cmd, args)
}

func (a *app) runCreate(ctx context.Context, opts *specOptions) error {
	if _, err := a.syncFiles(opts.spec.Sync, false); err != nil {
		return err // each start would fail of it
	}
	vm, err := a.create(ctx, api.CreateRequest{Name: opts.name, Spec: opts.spec, Leash: true})
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(vm)
	}
	_, err = fmt.Fprintln(a.Stdout, vm.Name)
	return err
}
