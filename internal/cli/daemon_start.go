package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

func newDaemonStartCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "start",
		Short: "Start the daemon if it does not run",
		Long: `Start the daemon if it does not run, and wait until it answers. Every verb that needs it does so by itself.

  banger daemon start`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return a.runDaemonStart(cmd.Context()) },
	}
}

func (a *app) runDaemonStart(ctx context.Context) error {
	_, before := a.ping(ctx)
	d, err := a.connect(ctx)
	if err != nil {
		return err
	}
	ping, err := d.Ping(ctx)
	if err != nil {
		return err
	}
	if a.json {
		return a.printStatus(&ping)
	}
	already := ""
	if before == nil {
		already = "already "
	}
	a.say(fmt.Sprintf("the daemon is %srunning, pid %d", already, ping.PID))
	return nil
}
