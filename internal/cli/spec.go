package cli

import (
	"runtime"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"banger.dev/banger"
	"banger.dev/banger/internal/config"
)

// specOptions are the flags of run and create that say what a VM is like.
type specOptions struct {
	name string
	spec banger.Spec
	env  envOptions

	settings func() (config.Config, error)
	config   config.Config // what settings gave, once complete
}

func newSpecOptions(a *app) *specOptions {
	return &specOptions{
		// The defaults are spelled out, so that an explicit 0 is seen as one.
		spec: banger.Spec{Work: banger.DefaultWork}.WithDefaults(),
		env:  envOptions{lookup: a.LookupEnv},

		settings: a.settings,
	}
}

func (o *specOptions) addFlags(a *app, cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.Var(&nameValue{&o.name}, "name", "name of the VM; one is made up otherwise")
	flags.Var(&refValue{&o.spec.Image}, "image", "image of its root file system")
	flags.Var(&refValue{&o.spec.Kernel}, "kernel", "kernel to boot; the image's otherwise, else the default one")
	flags.StringVar(&o.spec.KernelArgs, "kernel-args", "", "words to put behind banger's own on the kernel's command line")
	flags.Var(&countValue{&o.spec.VCPUs}, "vcpus", "virtual CPUs")
	flags.Var(&sizeValue{bytes: &o.spec.Memory}, "memory", "memory, with a unit")
	flags.Var(&sizeValue{bytes: &o.spec.Disk}, "disk", "size of the root file system, with a unit; the image's otherwise, if that is larger; only what is written takes space")
	flags.Var(&sizeValue{bytes: &o.spec.Work, allowNone: true}, "work", "size of the work disk (/root, /home), or none")
	flags.Var(choice(&o.spec.Net, banger.NetUser, banger.NetNone), "net", "how it is connected")
	flags.Var(choice(&o.spec.Init, banger.InitAuto, banger.InitNone), "init", "PID 1: auto is the image's init if it has one, none is banger's agent")
	flags.Var(choice(&o.spec.VMM, banger.VMMAuto, banger.VMMFirecracker, banger.VMMQEMU), "vmm", "program that runs it")
	flags.VarP(&portsValue{&o.spec.Publish}, "publish", "p", "publish a port of it on this host, as [IP:][HOST:]GUEST[/udp] (may be repeated)")
	o.env.addFlags(flags)
	flags.VarP(&workdirValue{&o.spec.Workdir}, "workdir", "w", "directory of its commands; the user's home otherwise")
	flags.VarP(&userValue{&o.spec.User}, "user", "u", "user of its commands; the image's otherwise, else root")
	flags.Var(&labelsValue{&o.spec.Labels}, "label", "a label to find it by (may be repeated)")
	flags.BoolVar(&o.spec.Overcommit, "overcommit", false, "start it also if the running VMs then have more memory than this host")
	a.addSyncFlag(flags, &o.spec.Sync, "config otherwise, and none with --rm")
	_ = cmd.RegisterFlagCompletionFunc("sync", completeSync)
	_ = cmd.RegisterFlagCompletionFunc("image", a.completeImages)
	_ = cmd.RegisterFlagCompletionFunc("kernel", a.completeKernels)
	_ = cmd.RegisterFlagCompletionFunc("net", cobra.FixedCompletions([]string{"user", "none"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("init", cobra.FixedCompletions([]string{"auto", "none"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("vmm", cobra.FixedCompletions([]string{"auto", "firecracker", "qemu"}, cobra.ShellCompDirectiveNoFileComp))
}

// complete reads what the flags only name, takes what they leave open from the
// settings and judges the whole, without asking anybody.
func (o *specOptions) complete(cmd *cobra.Command) error {
	if err := o.configured(cmd); err != nil {
		return err
	}
	var err error
	if o.spec.Env, err = o.env.variables(); err != nil {
		return withHelp(cmd, err)
	}
	host, err := thisHost()
	if err != nil {
		return err
	}
	return withHelp(cmd, o.blame(cmd, o.spec.Validate(host)))
}

// thisHost is what bounds a spec here. The daemon has the last word; this
// spares starting it for a value that cannot be.
func thisHost() (banger.Host, error) {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return banger.Host{}, banger.Errorf(banger.KindInternal, "the host's memory cannot be read: %w", err)
	}
	return banger.Host{CPUs: runtime.NumCPU(), Memory: banger.Bytes(info.Totalram * uint64(info.Unit))}, nil
}

// withHelp makes the verb's help the next command of an error that has none.
func withHelp(cmd *cobra.Command, err error) error {
	if err == nil || banger.NextOf(err) != "" {
		return err
	}
	return banger.Errorf(banger.KindOf(err), "%w", err).WithNext("%s --help", cmd.CommandPath())
}
