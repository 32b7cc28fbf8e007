package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
	"banger.dev/banger/internal/filesync"
	"banger.dev/banger/internal/workspace"
)

// shellScript becomes the login shell of the user it runs as, as far as the
// image says which that is.
const shellScript = `u=$(id -u 2>/dev/null || echo 0)
if [ -r /etc/passwd ]; then
	while IFS=: read -r _ _ id _ _ _ shell <&3; do
		if [ "$id" = "$u" ] && [ -x "$shell" ]; then exec "$shell" -l 3<&-; fi
	done 3</etc/passwd
fi
exec /bin/sh -l`

// deleteTimeout bounds how long a run waits for its VM to be gone.
const deleteTimeout = time.Minute

type runOptions struct {
	*specOptions
	remove  bool
	detach  bool
	tty     bool
	timeout time.Duration
	path    string // to be copied into the VM, "" for nothing
	copy    workspace.Options
	argv    []string // after --

	entrypoint   string // in place of the image's, if it was given
	reEntrypoint bool
}

func newRunCommand(a *app) *cobra.Command {
	opts := &runOptions{specOptions: newSpecOptions(a)}
	cmd := &cobra.Command{
		Use:        "run [flags] [PATH] [-- CMD...]",
		SuggestFor: []string{"launch"},
		Short:      "Make a VM, start it and run a command in it",
		Long: `Make a VM, start it and run a command in it. Without --rm the VM goes on running afterwards; with --rm it is
killed and deleted when the command ends, or when banger is ended in whatever way.

CMD goes to the image's entrypoint if it has one. Without CMD the image's own command is run, else root's login
shell, on a terminal if this is one.

With PATH, the repository or directory there is copied into the VM first, and the command runs in the copy; see
banger vm workspace prepare.

  banger run --rm -- uname -a
  banger run --rm . -- make test
  banger run --rm -t -- top
  banger run -d --name web --memory 2GiB
  banger run --rm --image alpine:3 -- cat /etc/os-release
  printf abc | banger run --rm -- wc -c

Exit code: the command's; 126 if it cannot be run, 127 if it is not there, 128+N after signal N, 125 for every
failure of banger's own, 130 when interrupted before the command runs.`,
		Annotations: map[string]string{ownExitCodes: "yes"},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveFilterDirs
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := opts.complete(cmd); err != nil {
				return err
			}
			return a.runRun(cmd.Context(), opts)
		},
	}
	cmd.Args = opts.takeArguments
	cmd.SetFlagErrorFunc(runFlagError)
	opts.addFlags(a, cmd)
	flags := cmd.Flags()
	flags.BoolVar(&opts.remove, "rm", false, "delete the VM when the command ends or banger does")
	flags.BoolVarP(&opts.detach, "detach", "d", false, "start the VM, print its name and run nothing")
	flags.BoolVarP(&opts.tty, "tty", "t", false, "give the command a terminal; stdin need not be one")
	flags.BoolP("interactive", "i", false, "accepted and changes nothing: stdin is always connected")
	flags.StringVar(&opts.entrypoint, "entrypoint", "", "program that CMD goes to, in place of the image's entrypoint and command; \"\" is none")
	flags.Var(&durationValue{&opts.timeout}, "timeout", "how long the boot may take, such as 90s")
	addWorkspaceFlags(flags, &opts.copy)
	return cmd
}

// runFlagError leads on who has typed the flags of a command before --.
func runFlagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		return usageError(cmd, "%s; a command goes behind --, with its flags", firstLine(err.Error()))
	}
	return flagError(cmd, err)
}

// takeArguments tells CMD, behind --, from what is before it.
func (o *runOptions) takeArguments(cmd *cobra.Command, args []string) error {
	before := args
	if dash := cmd.ArgsLenAtDash(); dash >= 0 {
		before, o.argv = args[:dash], args[dash:]
	}
	switch {
	case len(before) > 1 && isDir(before[0]):
		return usageError(cmd, "one directory is copied into the VM, and %q is more; a command goes behind --", before[1])
	case len(before) > 1:
		return banger.Errorf(banger.KindInvalid, "%q is no directory to copy into the VM; an image is named by --image, and a command goes behind --", before[0]).
			WithNext("%s --image %s -- %s", cmd.CommandPath(), before[0], strings.Join(before[1:], " "))
	case len(before) == 0 && workspaceFlag(cmd) != "":
		return usageError(cmd, "--%s is about a directory that is copied, and none is named", workspaceFlag(cmd))
	case o.detach && len(o.argv) > 0:
		return usageError(cmd, "--detach runs no command, and %q is one", o.argv[0])
	case o.detach && o.remove:
		return usageError(cmd, "--rm deletes the VM as soon as banger ends, and --detach lets it end at once")
	case o.detach && cmd.Flags().Changed("entrypoint"):
		return usageError(cmd, "--entrypoint is for a command, and --detach runs none")
	case o.detach && o.tty:
		return usageError(cmd, "--tty is for a command, and --detach runs none")
	case len(before) == 0:
		return nil
	}
	if o.path = before[0]; !isDir(o.path) {
		return banger.Errorf(banger.KindInvalid, "%q is no directory to copy into the VM; a command goes behind --, and an image is named by --image", o.path).
			WithNext("%[1]s -- %[2]s, or %[1]s --image %[2]s", cmd.CommandPath(), o.path)
	}
	return nil
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// workspaceFlag is a flag that was given and makes sense with a directory alone.
func workspaceFlag(cmd *cobra.Command) string {
	for _, name := range []string{"branch", "from", "depth", "readonly", "include-ignored", "exclude"} {
		if cmd.Flags().Changed(name) {
			return name
		}
	}
	return ""
}

// complete also settles what hangs on several flags.
func (o *runOptions) complete(cmd *cobra.Command) error {
	o.spec.Ephemeral, o.reEntrypoint = o.remove, cmd.Flags().Changed("entrypoint")
	if o.remove && len(o.argv) > 0 && !cmd.Flags().Changed("init") {
		o.spec.Init = banger.InitNone
	}
	return o.specOptions.complete(cmd)
}

func (a *app) runRun(ctx context.Context, opts *runOptions) error {
	files, err := a.syncFiles(opts.spec.Sync, opts.remove)
	if err != nil {
		return err
	}
	start := startOptions{timeout: opts.timeout}.request()
	start.Leased = opts.remove
	vm, err := a.create(ctx, api.CreateRequest{Name: opts.name, Spec: opts.spec, Start: &start, Leash: true})
	if err != nil {
		return err
	}
	if opts.remove {
		return a.runAndDelete(ctx, opts, vm, files)
	}
	command, err := a.furnish(ctx, opts, vm, files)
	if err != nil {
		return err
	}
	switch {
	case opts.detach && a.json:
		return a.printJSON(vm)
	case opts.detach:
		_, err = fmt.Fprintln(a.Stdout, vm.Name)
		return err
	}
	a.remark("%s is running, and stays so; end it with: banger vm delete --force %s", vm.Name, vm.Name)
	return a.runCommand(ctx, command)
}

// furnish puts into a VM what its command is to find there.
func (a *app) furnish(ctx context.Context, opts *runOptions, vm banger.Detail, files []filesync.File) (guestCommand, error) {
	command := opts.command(a, vm)
	if err := a.sync(ctx, vm, files); err != nil || opts.path == "" {
		return command, err
	}
	how := opts.copy
	how.Force = true // what a new VM has at that place came with its image
	p, err := a.prepare(ctx, vm, opts.path, how)
	if opts.spec.Workdir == "" {
		command.cwd = p.Dir
	}
	return command, err
}

// runAndDelete runs the command while holding the VM's lease, and deletes the
// VM however that ended.
func (a *app) runAndDelete(ctx context.Context, opts *runOptions, vm banger.Detail, files []filesync.File) error {
	release, err := holdLease(ctx, vm.Name, vm.Paths["monitor_socket"])
	if err == nil {
		defer release()
		var command guestCommand
		if command, err = a.furnish(ctx, opts, vm, files); err == nil {
			err = a.runCommand(ctx, command)
		}
	}
	if gone := a.deleteEphemeral(ctx, vm); gone != nil {
		// The command's exit code matters more, and the VM ends with the lease.
		a.printError(gone)
	}
	return err
}

// deleteEphemeral deletes the VM of a run, also after an interrupt, and also if
// the daemon had to be started anew for it. One that is gone already is fine.
func (a *app) deleteEphemeral(ctx context.Context, vm banger.Detail) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleteTimeout)
	defer cancel()
	var err error
	for range 2 {
		if err = a.tryDelete(ctx, vm.ID); err == nil || banger.KindOf(err) == banger.KindNotFound {
			return nil
		}
	}
	return banger.Errorf(banger.KindOf(err), "%s is not deleted: %w", vm.Name, err).WithNext("banger vm delete --force %s", vm.Name)
}

func (a *app) tryDelete(ctx context.Context, id string) error {
	d, err := a.connect(ctx)
	if err != nil {
		return err
	}
	_, err = d.DeleteVM(ctx, id, true)
	return err
}

// command is what run runs in vm.
func (o *runOptions) command(a *app, vm banger.Detail) guestCommand {
	c := guestCommand{vm: vm, tty: o.tty}
	if o.reEntrypoint {
		vm.Entrypoint, vm.Cmd = nil, nil
		if o.entrypoint != "" {
			vm.Entrypoint = []string{o.entrypoint}
		}
	}
	switch {
	case len(o.argv) > 0:
		c.argv = slices.Concat(vm.Entrypoint, o.argv)
	case len(vm.Entrypoint)+len(vm.Cmd) > 0:
		c.argv = slices.Concat(vm.Entrypoint, vm.Cmd)
	default:
		c.argv = []string{"/bin/sh", "-c", shellScript}
		c.tty = o.tty || isTerminal(a.Stdin) && isTerminal(a.Stdout)
	}
	return c
}
