package guest_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"

	"banger.dev/banger/internal/agent/command"
	"banger.dev/banger/internal/agent/users"
	"banger.dev/banger/internal/guest/exectest"
)

// TestExecTableOverASocket runs the table against the agent's exec port in this process.
func TestExecTableOverASocket(t *testing.T) {
	server := &command.Server{Users: &users.DB{}}
	socket := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go server.Serve(conn)
		}
	}()
	exectest.Run(t, exectest.Stream(agentTarget(), func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}))
}

func agentTarget() exectest.Target {
	return exectest.Target{Name: "agent", TTY: true, Users: os.Getuid() == 0, Signals: true, Resizes: true, Hangup: true}
}

// TestExecTableAgainstTheReference keeps the table honest.
func TestExecTableAgainstTheReference(t *testing.T) {
	exectest.Run(t, exectest.Local())
}
