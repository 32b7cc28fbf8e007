package agent

import (
	"fmt"
	"os"
	"runtime/debug"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"banger.dev/banger/internal/agent/boot"
	"banger.dev/banger/internal/agent/inits"
	"banger.dev/banger/internal/agent/wire"
)

// first is PID 1: it boots, brings the agent up, and then either becomes the
// image's init or does an init's work itself.
func first() {
	console := boot.Console{File: os.Stdout}
	defer func() {
		if p := recover(); p != nil {
			console.Fatal(fmt.Sprintf("panic: %v: %s", p, firstFrames(debug.Stack())))
		}
	}()
	unix.Umask(0o022)
	// As systemd gives its services: children inherit it, Go raises its own.
	_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 1024, Max: 512 << 10})
	config, err := boot.Run(console)
	if err != nil {
		console.Fatal(err)
	}
	s := state{Config: config, Init: noInit}
	s.Config.Seed = nil // used up
	if config.Init != "none" {
		if path := inits.Find(); path != "" {
			s.Init = path
		}
	}
	if err := s.save(); err != nil {
		console.Fatal(err)
	}
	console.Stage(wire.StagePorts)
	if s.Init == noInit {
		newReaper(console).run()
		return
	}
	if err := boot.PrepareInit(s.Config, inits.IsSystemd(s.Init)); err != nil {
		console.Note("preparing for %s: %v", s.Init, err)
	}
	if err := startBeside(); err != nil {
		console.Fatal(err)
	}
	console.Fatal(boot.ExecInit(s.Init))
}

// readyWait is how long an init is held back for the ports to be open. They
// always are, in milliseconds; but a guest must come up without them too.
const readyWait = 10 * time.Second

// startBeside starts the supervisor and waits until its agent serves.
func startBeside() error {
	var ready [2]int
	if err := unix.Pipe2(ready[:], unix.O_CLOEXEC); err != nil {
		return err
	}
	_, err := spawnSelf(roleSupervisor, ready[1])
	_ = unix.Close(ready[1])
	if err != nil {
		return err
	}
	_ = unix.SetNonblock(ready[0], true)
	r := os.NewFile(uintptr(ready[0]), "ready")
	defer func() { _ = r.Close() }()
	_ = r.SetReadDeadline(time.Now().Add(readyWait))
	_, _ = r.Read(make([]byte, 1)) // its end would do as well
	return nil
}

// firstFrames is a stack on one line, as much of it as a console line bears.
func firstFrames(stack []byte) string {
	line := make([]byte, 0, 512)
	for _, b := range stack {
		if b == '\n' {
			b = '|'
		}
		if len(line) < cap(line) {
			line = append(line, b)
		}
	}
	return string(line)
}
