package agent

import (
	"os"
	"path/filepath"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"banger.dev/banger/internal/agent/boot"
)

// spawnSelf starts this program in another role: in a session of its own, with
// nothing of the console, its complaints in a log. ready, if not negative, is
// its descriptor 3: it writes a byte there when it serves.
func spawnSelf(role string, ready int) (pid int, err error) {
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, &os.PathError{Op: "open", Path: "/dev/null", Err: err}
	}
	defer func() { _ = unix.Close(null) }()
	log, err := openLog()
	if err != nil {
		log = null
	} else {
		defer func() { _ = unix.Close(log) }()
	}
	files := []uintptr{uintptr(null), uintptr(null), uintptr(log)}
	if ready >= 0 {
		files = append(files, uintptr(ready))
	}
	// The file was in the initramfs and is gone; the running one is not.
	return syscall.ForkExec("/proc/self/exe", []string{role}, &syscall.ProcAttr{
		Dir:   "/",
		Env:   []string{"GOTRACEBACK=all"},
		Files: files,
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
}

// maxLog bounds the log at each opening; an agent that crashes again and again
// must not fill the guest's memory.
const maxLog = 1 << 20

func openLog() (int, error) {
	name := filepath.Join(boot.Dir, "agent.log")
	flags := unix.O_WRONLY | unix.O_CREAT | unix.O_APPEND | unix.O_CLOEXEC
	if info, err := os.Stat(name); err == nil && info.Size() > maxLog {
		flags |= unix.O_TRUNC
	}
	return unix.Open(name, flags, 0o600)
}

// restartPause grows while agents die young, so that one which cannot run does
// not take the whole CPU.
type restartPause struct{ last time.Duration }

func (r *restartPause) next(lived time.Duration) time.Duration {
	if lived > 10*time.Second {
		r.last = 0
	}
	r.last = min(max(2*r.last, 50*time.Millisecond), 5*time.Second)
	return r.last
}

// supervise is the agent's parent beside an init: it starts it again whenever
// it ends.
func supervise() int {
	ready := inherited(3)
	setName("banger-supervis") // as much of it as the kernel keeps
	var pause restartPause
	for {
		began := time.Now()
		pid, err := spawnSelf(roleAgent, ready)
		if ready >= 0 {
			_ = unix.Close(ready)
			ready = -1
		}
		if err == nil {
			waitFor(pid)
		}
		time.Sleep(pause.next(time.Since(began)))
	}
}

func waitFor(pid int) {
	for {
		if _, err := syscall.Wait4(pid, nil, 0, nil); err != syscall.EINTR {
			return
		}
	}
}

// inherited gives a descriptor that the parent may have left, closed on exec, or -1.
func inherited(fd int) int {
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC); err != nil {
		return -1
	}
	return fd
}

// setName is for ps: the file that is run is called exe.
func setName(name string) {
	b, err := unix.BytePtrFromString(name)
	if err == nil {
		_ = unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(b)), 0, 0, 0)
	}
}
