package cli

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"banger.dev/banger"
	"banger.dev/banger/internal/tail"
)

func newDaemonLogsCommand(a *app) *cobra.Command {
	follow := false
	cmd := &cobra.Command{
		Use:   "logs [flags]",
		Short: "Print what the daemon has said",
		Long: `Print what the daemon has said, whether it runs or not. Starts nothing. With --follow it goes on, also with
what the next daemon says, until it is interrupted.

  banger daemon logs | tail
  banger daemon logs -f`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if follow && a.json {
				return usageError(cmd, "--follow and -o json do not go together: what follows has no end")
			}
			return a.runDaemonLogs(cmd.Context(), follow)
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what is written")
	return cmd
}

func (a *app) runDaemonLogs(ctx context.Context, follow bool) error {
	layout, err := a.layout()
	if err != nil {
		return err
	}
	path := layout.DaemonLog()
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) && !follow {
		return banger.Errorf(banger.KindNotFound, "there is no log yet: %s is not there", path).WithNext("banger daemon start")
	}
	var never func() bool
	if follow {
		a.signals.watch()
		never = func() bool { return false }
	}
	ctx, unread := a.whileRead(ctx)
	defer unread()
	log, err := tail.Open(ctx, []string{layout.DaemonLogBefore(), path}, never)
	if err != nil {
		return banger.Errorf(banger.KindInternal, "the daemon's log cannot be read: %w", err)
	}
	defer func() { _ = log.Close() }()
	return a.outcome(ctx, a.printText("log", log))
}
