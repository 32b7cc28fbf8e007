package cli

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/spf13/cobra"

	"banger.dev/banger/internal/agent/wire"
	"banger.dev/banger/internal/api"
	"banger.dev/banger/internal/version"
)

// pingTimeout bounds what only wants to know who answers. A busy host may take
// seconds over it, and that is no daemon that has to be killed.
const pingTimeout = 10 * time.Second

// versionReply is the JSON form of version; daemon is null while none runs.
type versionReply struct {
	Client clientVersion  `json:"client"`
	Daemon *daemonVersion `json:"daemon"`
}

type clientVersion struct {
	Version   string    `json:"version"`
	Commit    string    `json:"commit"`
	Go        string    `json:"go"`        // release that it was built with
	Platform  string    `json:"platform"`  // GOOS/GOARCH
	API       int       `json:"api"`       // of the daemon's HTTP interface
	Protocols protocols `json:"protocols"` // that it speaks to agents
}

// protocols is a range: all from the first to the last are spoken.
type protocols struct {
	First int `json:"first"`
	Last  int `json:"last"`
}

type daemonVersion struct {
	Version string `json:"version"`
	PID     int    `json:"pid"`
	API     int    `json:"api"`
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

func thisClient() clientVersion {
	return clientVersion{
		Version: version.Version, Commit: version.Commit,
		Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
		API: api.Version, Protocols: protocols{First: 1, Last: wire.Version},
	}
}

func (a *app) runVersion(ctx context.Context) error {
	reply := versionReply{Client: thisClient()}
	if ping, err := a.ping(ctx); err == nil {
		reply.Daemon = &daemonVersion{Version: ping.Version, PID: ping.PID, API: ping.API}
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
