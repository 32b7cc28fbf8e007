package cli

import (
	"errors"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"banger.dev/banger"
)

func newDaemonLogsCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "logs",
		Short: "Print what the daemon has said",
		Long: `Print what the daemon has said, whether it runs or not. Starts nothing.

  banger daemon logs | tail`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(*cobra.Command, []string) error { return a.runDaemonLogs() },
	}
}

func (a *app) runDaemonLogs() error {
	layout, err := a.layout()
	if err != nil {
		return err
	}
	log, err := os.Open(layout.DaemonLog())
	if errors.Is(err, fs.ErrNotExist) {
		return banger.Errorf(banger.KindNotFound, "there is no log yet: %s is not there", layout.DaemonLog()).WithNext("banger daemon start")
	}
	if err != nil {
		return banger.Errorf(banger.KindInternal, "the daemon's log cannot be read: %w", err)
	}
	defer func() { _ = log.Close() }()
	return a.printText("log", log)
}
