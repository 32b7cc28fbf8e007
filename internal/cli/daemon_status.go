package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"banger.dev/banger/internal/api"
	"banger.dev/banger/internal/client"
)

// exitNotRunning is daemon status's answer for scripts.
const exitNotRunning = 3

// daemonStatus is the JSON form of daemon status.
type daemonStatus struct {
	Running bool       `json:"running"`
	PID     int        `json:"pid"` // 0 while it does not run
	Version string     `json:"version"`
	Socket  string     `json:"socket"`
	Since   *time.Time `json:"since"`
}

func newDaemonStatusCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Say whether the daemon runs",
		Long: `Say whether the daemon runs. Starts nothing.

  banger daemon status -o json

Exit code: 0 if it runs, 3 if not.`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return a.runDaemonStatus(cmd.Context()) },
	}
}

func (a *app) runDaemonStatus(ctx context.Context) error {
	ping, err := a.ping(ctx)
	switch {
	case errors.Is(err, client.ErrNotRunning):
		if err := a.printStatus(nil); err != nil {
			return err
		}
		return &exitError{code: exitNotRunning}
	case err != nil:
		return err
	}
	return a.printStatus(&ping)
}

// printStatus prints the daemon's status; ping is nil while it does not run.
func (a *app) printStatus(ping *api.Ping) error {
	layout, err := a.layout()
	if err != nil {
		return err
	}
	status := daemonStatus{Running: ping != nil, Socket: layout.DaemonSocket()}
	if ping != nil {
		status.PID, status.Version, status.Since = ping.PID, ping.Version, &ping.Since
	}
	if a.json {
		return a.printJSON(status)
	}
	_, err = fmt.Fprintln(a.Stdout, escape(status.line()))
	return err
}

func (s daemonStatus) line() string {
	if !s.Running {
		return "the daemon is not running; it starts when a verb needs it"
	}
	return fmt.Sprintf("the daemon is running: pid %d, version %s, since %s, socket %s",
		s.PID, s.Version, s.Since.Local().Format(time.DateTime), s.Socket)
}
