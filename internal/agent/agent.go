// Package agent is the guest's half of banger: one static program that is the
// first process of the initramfs, and afterwards the process that runs the
// host's commands. Which of its roles a process has, its argv[0] says. What the
// roles do is in the packages below this one; here they are put together.
package agent

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"banger.dev/banger/internal/agent/boot"
	"banger.dev/banger/internal/agent/wire"
	"banger.dev/banger/internal/version"
)

// The names of the roles. systemd's last kill before a power-off spares
// processes whose name begins with '@', and does not wait for them.
const (
	roleSupervisor = "@banger-supervisor"
	roleAgent      = "@banger-agent"
)

// Main runs the role that args and the process id tell, and returns the exit
// code. As PID 1 it does not return.
func Main(args []string) int {
	switch {
	case os.Getpid() == 1:
		first()
		return 0
	case len(args) > 0 && args[0] == roleSupervisor:
		return supervise()
	case len(args) > 0 && args[0] == roleAgent:
		return serve()
	}
	fmt.Fprintf(os.Stderr, "banger-agent %s runs inside banger's virtual machines, where it is started by itself\n", version.String())
	return 2
}

// state is what PID 1 leaves for the agent, which may be restarted at any time.
type state struct {
	Config wire.Config `json:"config"`
	Init   string      `json:"init"` // path of the image's init, or "none"
}

const noInit = "none"

func statePath() string { return filepath.Join(boot.Dir, "agent.json") }

func (s state) save() error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return os.WriteFile(statePath(), b, 0o600)
}

func loadState() (state, error) {
	var s state
	b, err := os.ReadFile(statePath())
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(b, &s)
}
