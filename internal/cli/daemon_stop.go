package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"banger.dev/banger/internal/client"
)

func newDaemonStopCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:        "stop",
		SuggestFor: []string{"restart"},
		Short:      "Stop the daemon; VMs go on",
		Long: `Stop the daemon. VMs and the commands in them go on, and the next verb that needs a daemon starts one.

  banger daemon stop`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return a.runDaemonStop(cmd.Context()) },
	}
}

func (a *app) runDaemonStop(ctx context.Context) error {
	a.signals.watch()
	said := "the daemon was not running"
	d, err := a.dial(ctx)
	if err == nil {
		said = "the daemon has stopped; " + a.goingOn(ctx, d)
		err = d.StopDaemon(ctx)
	}
	if errors.Is(err, client.ErrNotRunning) {
		said, err = "the daemon was not running", nil
	}
	switch {
	case err != nil:
		return err
	case a.json:
		return a.printStatus(nil)
	}
	a.say(said)
	return nil
}

// goingOn says what a daemon leaves behind. One of another build may not tell.
func (a *app) goingOn(ctx context.Context, d *client.Client) string {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	vms, err := d.ListVMs(ctx)
	if err != nil {
		return "VMs go on running; see them with: banger ps"
	}
	alive := 0
	for _, vm := range vms {
		if isAlive(vm) {
			alive++
		}
	}
	switch alive {
	case 0:
		return "no VM is running"
	case 1:
		return "1 VM goes on running; see it with: banger ps"
	}
	return fmt.Sprintf("%d VMs go on running; see them with: banger ps", alive)
}
