package agent

import (
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"banger.dev/banger/internal/agent/boot"
)

// reaper is PID 1 where the image's init is not wanted, or there is none: it
// starts the agent again when it ends, reaps what nobody else waits for, and
// powers off when it is told.
type reaper struct {
	console boot.Console
	agent   int // pid, or 0
	began   time.Time
	pause   restartPause
	signals chan os.Signal
}

// What the usual tools send to PID 1: systemd's, busybox's, and the kernel's
// for Ctrl-Alt-Del and for a failing power supply.
const (
	sigSystemdPowerOff = syscall.Signal(34 + 4)
	sigSystemdReboot   = syscall.Signal(34 + 5)
)

func newReaper(console boot.Console) *reaper {
	r := &reaper{console: console, signals: make(chan os.Signal, 16)}
	signal.Notify(r.signals, syscall.SIGCHLD, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGTERM, syscall.SIGINT,
		syscall.SIGPWR, sigSystemdPowerOff, sigSystemdReboot)
	return r
}

func (r *reaper) run() {
	r.startAgent()
	var restart <-chan time.Time
	for {
		select {
		case s := <-r.signals:
			switch s {
			case syscall.SIGCHLD:
			case syscall.SIGTERM, syscall.SIGINT, sigSystemdReboot:
				r.end(unix.LINUX_REBOOT_CMD_RESTART)
			default:
				r.end(unix.LINUX_REBOOT_CMD_POWER_OFF)
			}
		case <-restart:
			restart = nil
			r.startAgent()
		}
		r.reap()
		if r.agent == 0 && restart == nil {
			restart = time.After(r.pause.next(time.Since(r.began)))
		}
	}
}

func (r *reaper) startAgent() {
	pid, err := spawnSelf(roleAgent, -1)
	if err != nil {
		r.console.Note("starting the agent: %v", err)
	}
	r.agent, r.began = pid, time.Now()
}

// reap takes every dead child there is; the kernel tells of several with one signal.
func (r *reaper) reap() {
	for {
		pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		if pid == r.agent {
			r.agent = 0
		}
	}
}

// endGrace is how long processes have between SIGTERM and SIGKILL.
const endGrace = 5 * time.Second

// end ends every process, puts the disks in order and ends the machine. The
// agent goes last, so that commands can still tell their clients how they ended.
func (r *reaper) end(how int) {
	_ = syscall.Kill(-1, syscall.SIGTERM)
	_ = syscall.Kill(-1, syscall.SIGCONT)
	for deadline := time.Now().Add(endGrace); time.Now().Before(deadline) && r.others(); time.Sleep(20 * time.Millisecond) {
		r.reap()
	}
	time.Sleep(20 * time.Millisecond) // for the last command's exit code to leave
	_ = syscall.Kill(-1, syscall.SIGKILL)
	for deadline := time.Now().Add(time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if _, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); err == syscall.ECHILD {
			break
		}
	}
	boot.Unmount()
	_ = unix.Reboot(how)
	boot.PowerOff()
}

// others says whether there is a process besides PID 1, the agent and the
// kernel's threads, which have no executable.
func (r *reaper) others() bool {
	names, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, name := range names {
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if pid == 1 || pid == r.agent {
			continue
		}
		if _, err := os.Readlink(name); err == nil {
			return true
		}
	}
	return false
}
