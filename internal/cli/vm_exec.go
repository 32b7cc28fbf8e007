package cli

import (
	"context"

	"github.com/spf13/cobra"

	"banger.dev/banger"
)

type execOptions struct {
	env     envOptions
	workdir string
	user    string
	tty     bool
}

func newExecCommand(a *app) *cobra.Command {
	opts := &execOptions{env: envOptions{lookup: a.LookupEnv}}
	cmd := &cobra.Command{
		Use:   "exec [flags] NAME CMD...",
		Short: "Run a command in a running VM",
		Long: `Run a command in a running VM. stdin, stdout, stderr and signals are connected, the arguments arrive as they
are: no shell reads them. The image's entrypoint is not used. Everything behind NAME belongs to the command.

  banger exec web -- uname -a
  banger exec -t web bash
  tar -c src | banger exec web tar -x -C /root
  banger exec -w /srv -u www-data -e MODE=test web ./check --all

Exit code: the command's; 126 if it cannot be run, 127 if it is not there, 128+N after signal N, 125 for every
failure of banger's own.`,
		Annotations:       map[string]string{ownExitCodes: "yes"},
		Args:              execArguments,
		ValidArgsFunction: a.completeVMs(banger.StateRunning),
		RunE: func(cmd *cobra.Command, args []string) error {
			env, err := opts.env.variables()
			if err != nil {
				return withHelp(cmd, err)
			}
			return a.runExec(cmd.Context(), opts, env, args[0], withoutDash(args[1:]))
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.SetInterspersed(false) // the command's flags are its own
	opts.env.addFlags(flags)
	flags.VarP(&workdirValue{&opts.workdir}, "workdir", "w", "directory to run it in; the VM's own otherwise, else the user's home")
	flags.VarP(&userValue{&opts.user}, "user", "u", "user to run it as; the VM's own otherwise, else root")
	flags.BoolVarP(&opts.tty, "tty", "t", false, "give the command a terminal; stdin need not be one")
	flags.BoolP("interactive", "i", false, "accepted and changes nothing: stdin is always connected")
	return cmd
}

func execArguments(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return usageError(cmd, "%s needs the name of a VM and a command", verbOf(cmd))
	case len(withoutDash(args[1:])) == 0:
		return banger.Errorf(banger.KindInvalid, "%s needs a command to run in %s", verbOf(cmd), args[0]).WithNext("%s -t %s bash", cmd.CommandPath(), args[0])
	}
	return nil
}

// withoutDash leaves out the -- that may stand between NAME and CMD.
func withoutDash(args []string) []string {
	if len(args) > 0 && args[0] == "--" {
		return args[1:]
	}
	return args
}

func (a *app) runExec(ctx context.Context, opts *execOptions, env []string, ref string, argv []string) error {
	vm, err := a.runningVM(ctx, ref)
	if err != nil {
		return err
	}
	return a.runCommand(ctx, guestCommand{
		vm: vm, argv: argv, env: env, cwd: opts.workdir, user: opts.user, tty: opts.tty,
	})
}

// runningVM is a VM in which something can be done.
func (a *app) runningVM(ctx context.Context, ref string) (banger.Detail, error) {
	d, err := a.connect(ctx)
	if err != nil {
		return banger.Detail{}, err
	}
	vm, err := d.ShowVM(ctx, ref)
	if err != nil {
		return banger.Detail{}, err
	}
	return vm, mustRun(vm.VM)
}

// mustRun refuses a VM in which no command can be run.
func mustRun(vm banger.VM) error {
	switch vm.State {
	case banger.StateRunning:
		return nil
	case banger.StateStopped:
		return banger.Errorf(banger.KindConflict, "%s is stopped", vm.Name).WithNext("banger vm start %s", vm.Name)
	case banger.StatePaused:
		return banger.Errorf(banger.KindConflict, "%s is %s", vm.Name, stateLine(vm)).WithNext("banger vm resume %s", vm.Name)
	default:
		return banger.Errorf(banger.KindConflict, "%s is %s", vm.Name, stateLine(vm)).WithNext("banger vm show %s", vm.Name)
	}
}
