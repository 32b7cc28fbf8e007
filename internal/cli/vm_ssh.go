package cli

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"banger.dev/banger"
)

func newSSHCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:        "ssh [USER@]NAME [SSH OPTION...] [-- CMD...]",
		SuggestFor: []string{"shell", "attach", "console", "login", "enter"},
		Short:      "Open an ssh session in a running VM",
		Long: `Run this machine's own ssh to a running VM, as root unless a user is named. Everything behind NAME belongs to
ssh. It needs no network in the VM and nothing installed there. For ssh NAME.vm, scp, rsync and editors see
banger ssh-config. A command alone is cheaper by banger exec.

  banger ssh web
  banger ssh alice@web -A
  banger ssh web -N -L 8080:localhost:80
  banger ssh web -- uptime

Exit code: that of ssh, which is the command's, or 255 if ssh failed; 125 for every failure of banger's own.`,
		Annotations:       map[string]string{ownExitCodes: "yes"},
		Args:              between(1, 1<<20, "the name of a VM"),
		ValidArgsFunction: a.completeVMs(banger.StateRunning),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runSSH(cmd.Context(), args[0], args[1:])
		},
	}
	cmd.Flags().SetInterspersed(false) // ssh's flags are its own
	return cmd
}

func (a *app) runSSH(ctx context.Context, target string, args []string) error {
	user, ref := "", target
	if at := strings.LastIndexByte(target, '@'); at >= 0 {
		user, ref = target[:at+1], target[at+1:]
	}
	binary, err := exec.LookPath("ssh")
	if err != nil {
		return banger.Errorf(banger.KindUnavailable, "there is no ssh on this machine").WithNext("sudo apt-get install openssh-client")
	}
	layout, err := a.layout()
	if err != nil {
		return err
	}
	d, err := a.connect(ctx)
	if err != nil {
		return err
	}
	vm, err := d.ShowVM(ctx, vmOfHost(ref))
	if err != nil {
		return err
	}
	if err := mustRun(vm.VM); err != nil {
		return err
	}
	options, err := a.sshOptions(layout)
	if err != nil {
		return err
	}
	argv := []string{"ssh"}
	for _, o := range options {
		argv = append(argv, "-o", o.key+"="+o.value)
	}
	argv = append(append(argv, user+vm.Name+".vm"), args...)
	// In the place of this process: its terminal, signals and end are ssh's.
	err = syscall.Exec(binary, argv, os.Environ())
	return banger.Errorf(banger.KindInternal, "%s: %w", binary, err)
}
