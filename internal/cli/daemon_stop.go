package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"banger.dev/banger/internal/client"
)

func newDaemonStopCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "stop",
		Short: "Stop the daemon; VMs go on",
		Long: `Stop the daemon. VMs and the commands in them go on, and the next verb that needs a daemon starts one.

  banger daemon stop`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return a.runDaemonStop(cmd.Context()) },
	}
}

func (a *app) runDaemonStop(ctx context.Context) error {
	said := "the daemon has stopped; VMs go on running"
	d, err := a.dial(ctx)
	if err == nil {
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
