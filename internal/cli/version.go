package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"banger.dev/banger/internal/version"
)

// pingTimeout bounds what only wants to know who answers.
const pingTimeout = 2 * time.Second

// versionReply is the JSON form of version; daemon is null while none runs.
type versionReply struct {
	Client clientVersion  `json:"client"`
	Daemon *daemonVersion `json:"daemon"`
}

type clientVersion struct {
	Version string `json:"version"`
	Commit  string `json:"commit"`
}

type daemonVersion struct {
	Version string `json:"version"`
	PID     int    `json:"pid"`
}

func newVersionCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of banger, and of the daemon if it runs",
		Long: `Print the version of banger, and of the daemon if it runs. Starts nothing.

  banger version
  banger version -o json`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return a.runVersion(cmd.Context()) },
	}
}

func (a *app) runVersion(ctx context.Context) error {
	reply := versionReply{Client: clientVersion{Version: version.Version, Commit: version.Commit}}
	if ping, err := a.ping(ctx); err == nil {
		reply.Daemon = &daemonVersion{Version: ping.Version, PID: ping.PID}
	}
	if a.json {
		return a.printJSON(reply)
	}
	line := "banger " + version.String()
	if reply.Daemon != nil && reply.Daemon.Version != version.String() {
		line += ", daemon " + reply.Daemon.Version
	}
	_, err := fmt.Fprintln(a.Stdout, escape(line))
	return err
}
