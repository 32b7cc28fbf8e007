package cli

import (
	"context"
	"reflect"

	"github.com/spf13/cobra"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
	"banger.dev/banger/internal/client"
)

type setOptions struct {
	vcpus   int
	memory  banger.Bytes
	disk    banger.Bytes
	image   string
	kernel  string
	args    string
	labels  map[string]*string
	targets targetOptions
}

func newSetCommand(a *app) *cobra.Command {
	opts := &setOptions{}
	cmd := &cobra.Command{
		Use:        "set [flags] NAME...",
		SuggestFor: []string{"update", "edit", "resize"},
		Short:      "Change what VMs are like",
		Long: `Change what VMs are like. Labels change at once, and so does the size of the disk, which can only grow, with the
file system on it. vcpus, memory and the kernel's arguments of one that runs change at its next start, which is said.
Another kernel or image needs a stopped VM. Another image begins the system anew, as reset does, and keeps /root and
/home; a VM for which no kernel was named gets the kernel of the image, if that has one.

  banger vm set --disk 40GiB web
  banger vm set --vcpus 2 --memory 4GiB web
  banger vm set --kernel mine --kernel-args loglevel=7 web
  banger vm set --label team=blue --label tmp- web db      one label more, one less`,
		Args:              opts.targets.names(),
		ValidArgsFunction: a.completeVMs(),
		RunE:              func(cmd *cobra.Command, args []string) error { return a.runSet(cmd, opts, args) },
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.Var(&countValue{&opts.vcpus}, "vcpus", "virtual CPUs")
	flags.Var(&sizeValue{bytes: &opts.memory}, "memory", "memory, with a unit")
	flags.Var(&sizeValue{bytes: &opts.disk}, "disk", "size of the root file system, with a unit; it can only grow")
	flags.Var(&refValue{&opts.image}, "image", "image of its root file system, which is begun anew")
	flags.Var(&refValue{&opts.kernel}, "kernel", "kernel to boot")
	flags.StringVar(&opts.args, "kernel-args", "", "words to put behind banger's own on the kernel's command line, in place of those before")
	flags.Var(&labelChangesValue{&opts.labels}, "label", "a label to have, or KEY- to have no more (may be repeated)")
	opts.targets.addAll(cmd)
	_ = cmd.RegisterFlagCompletionFunc("image", a.completeImages)
	_ = cmd.RegisterFlagCompletionFunc("kernel", a.completeKernels)
	return cmd
}

func (a *app) runSet(cmd *cobra.Command, opts *setOptions, names []string) error {
	req := opts.request(cmd)
	if reflect.ValueOf(req).IsZero() {
		return usageError(cmd, "%s needs something to set", verbOf(cmd))
	}
	return a.eachOperation(cmd, &opts.targets, names, "set", func(ctx context.Context, d *client.Client, ref string, report banger.ProgressFunc) (api.Operation, error) {
		return d.SetVM(ctx, ref, req, report)
	})
}

// request has what was typed, and nothing for the rest.
func (o *setOptions) request(cmd *cobra.Command) api.SetRequest {
	req := api.SetRequest{Labels: o.labels}
	if cmd.Flags().Changed("vcpus") {
		req.VCPUs = &o.vcpus
	}
	if cmd.Flags().Changed("memory") {
		req.Memory = &o.memory
	}
	if cmd.Flags().Changed("disk") {
		req.Disk = &o.disk
	}
	if o.image != "" {
		req.Image = &o.image
	}
	if o.kernel != "" {
		req.Kernel = &o.kernel
	}
	if cmd.Flags().Changed("kernel-args") {
		req.KernelArgs = &o.args
	}
	return req
}
