// Package inits knows the init systems that an image may bring: how to find
// one, how to ask how far it is, and how to have it power off. It starts none.
package inits

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"banger.dev/banger/internal/agent/wire"
)

// Find gives the path of the image's init, or "".
func Find() string {
	for _, name := range []string{"/sbin/init", "/usr/sbin/init", "/lib/systemd/systemd", "/usr/lib/systemd/systemd"} {
		info, err := os.Stat(name)
		if err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return name
		}
	}
	return ""
}

// IsSystemd says whether the init at path is systemd.
func IsSystemd(path string) bool {
	real, err := filepath.EvalSymlinks(path)
	return err == nil && filepath.Base(real) == "systemd"
}

// Status says how far the init at path has got.
func Status(path string) wire.InitStatus {
	if !IsSystemd(path) {
		return wire.InitStatus{State: "running", Done: true}
	}
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	// The agent has no PATH of its own; where systemd is, /bin is /usr/bin. It exits with 1 for every state but "running", and prints it all the same.
	out, _ := exec.CommandContext(ctx, "/usr/bin/systemctl", "is-system-running").Output()
	switch state := strings.TrimSpace(string(out)); state {
	case "", "offline", "unknown", "initializing", "starting": // it may not listen yet
		return wire.InitStatus{State: "starting"}
	default:
		return wire.InitStatus{State: state, Done: true}
	}
}

// askTimeout bounds one question to systemd.
const askTimeout = 10 * time.Second

// sigPowerOff is systemd's SIGRTMIN+4, as the C library counts.
const sigPowerOff = syscall.Signal(34 + 4)

// PowerOff asks the init at path to power off, again and again: an init that
// has only just begun does not hear the first time. It returns at once.
func PowerOff(path string) {
	go func() {
		for range 5 {
			powerOff(path)
			time.Sleep(3 * time.Second)
		}
	}()
}

func powerOff(path string) {
	if IsSystemd(path) {
		_ = syscall.Kill(1, sigPowerOff)
		return
	}
	for _, program := range []string{"/sbin/poweroff", "/usr/sbin/poweroff", "/bin/poweroff", "/usr/bin/poweroff"} {
		p, err := os.StartProcess(program, []string{program}, &os.ProcAttr{Dir: "/", Env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}})
		if err != nil {
			continue
		}
		if state, err := p.Wait(); err == nil && state.Success() {
			return
		}
		break
	}
	_ = unix.Kill(1, unix.SIGUSR2) // what busybox, and those who follow it, take for it
}
