package command

import (
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"banger.dev/banger/internal/agent/users"
	"banger.dev/banger/internal/agent/wire"
)

// Spec is a process for a caller that carries its streams itself.
type Spec struct {
	File string // a path, or a name to look up in the PATH of Env
	Argv []string
	Env  []string
	Dir  string // "" is the user's home if it can be entered, else /
	As   users.Identity
	TTY  bool
	Rows uint16
	Cols uint16
	// TTYVariable, if set, is added to Env with the path of the new terminal.
	TTYVariable string
	// Terminal, if set, changes the modes of the new terminal.
	Terminal func(*unix.Termios)
}

// Process is one that Start has started: in a session of its own, every signal
// at its default. Its methods may be called from any goroutine, Wait once.
type Process struct {
	// Stdin, Stdout and Stderr are our ends of its pipes; with a terminal Stdin
	// and Stdout are the terminal and Stderr is nil. They are the caller's to close.
	Stdin, Stdout, Stderr *os.File

	proc  *process
	mu    sync.Mutex
	ended bool
}

// Start starts a process. The error is for the person who asked for it.
func Start(spec Spec) (*Process, *wire.Error) {
	var std *stdio
	var err error
	if spec.TTY {
		std, err = openTerminal(spec.Rows, spec.Cols, spec.As.UID)
	} else {
		std, err = openPipes()
	}
	if err != nil {
		return nil, problem(125, "the agent could not open the command's stdin and stdout: %v", err)
	}
	p := &Process{proc: &std.ours}
	if spec.TTY {
		if tty, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(std.theirs[0])); err == nil && spec.TTYVariable != "" {
			spec.Env = append(spec.Env, spec.TTYVariable+"="+tty)
		}
		setModes(std.theirs[0], spec.Terminal)
	}
	dir := spec.Dir
	if dir == "" {
		dir = homeOf(spec.As)
	}
	pid, pidfd, bad := spawn(spec.File, spec.Argv, spec.Env, dir, credential(spec.As), std)
	std.closeTheirs()
	if bad != nil {
		std.closeAll()
		return nil, bad
	}
	_ = unix.SetNonblock(pidfd, true)
	p.proc.pid, p.proc.pidfd = pid, os.NewFile(uintptr(pidfd), "pidfd")
	p.Stdin, p.Stdout = p.proc.stdin, p.proc.outputs[0]
	if !spec.TTY {
		p.Stderr = p.proc.outputs[1]
	}
	return p, nil
}

func setModes(fd int, change func(*unix.Termios)) {
	if change == nil {
		return
	}
	if modes, err := unix.IoctlGetTermios(fd, unix.TCGETS); err == nil {
		change(modes)
		_ = unix.IoctlSetTermios(fd, unix.TCSETS, modes)
	}
}

// Wait reaps the process. Its output may go on: what it has started may hold
// the pipes.
func (p *Process) Wait() syscall.WaitStatus {
	status := p.proc.wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	return status
}

// Release lets go of the terminal, whose end can be read from then on.
func (p *Process) Release() { p.proc.release() }

// Drain tells a reader of Stdout or Stderr that what is in the pipe now is the
// last that counts: once that is read, its reads end by os.ErrDeadlineExceeded.
func (p *Process) Drain() {
	for _, f := range p.proc.outputs {
		_ = f.SetReadDeadline(time.Unix(1, 0))
	}
}

// Pending reads what is in file at this moment, without waiting, for after
// Drain. The result is bounded by what a pipe or a terminal holds.
func (p *Process) Pending(file *os.File) []byte {
	rc, err := file.SyscallConn()
	if err != nil || file.SetReadDeadline(time.Time{}) != nil {
		return nil
	}
	left := bulkBuffer
	if !p.proc.tty {
		_ = rc.Control(func(fd uintptr) { left, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	}
	buf := make([]byte, left)
	n := 0
	for n < len(buf) {
		m := 0
		_ = rc.Read(func(fd uintptr) bool {
			m, err = unix.Read(int(fd), buf[n:])
			return true
		})
		if err == unix.EINTR {
			continue
		}
		if err != nil || m <= 0 {
			break
		}
		n += m
	}
	return buf[:n]
}

// Signal signals the process's group while the process is there.
func (p *Process) Signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended {
		_ = syscall.Kill(-p.proc.pid, s)
	}
}

// Resize sets the size of the terminal; without one it does nothing.
func (p *Process) Resize(rows, cols uint16) { p.proc.resize(rows, cols) }
