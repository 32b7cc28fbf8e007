package command

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// process is a command that has been started, and our ends of its descriptors.
type process struct {
	pid     int
	pidfd   *os.File
	tty     bool
	stdin   *os.File   // the terminal, if it has one
	outputs []*os.File // stdout and stderr, or the terminal
	held    int        // the command's end of the terminal, or -1
}

// stdio is the descriptors of a command to be: the command's ends and ours.
type stdio struct {
	theirs [3]int
	ours   process
	tty    bool
}

// openPipes makes three pipes. Our ends do not block; theirs do, as anybody expects.
func openPipes() (*stdio, error) {
	s := &stdio{theirs: [3]int{-1, -1, -1}, ours: process{held: -1}}
	for i := range s.theirs {
		var p [2]int
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
			s.closeAll()
			return nil, err
		}
		theirs, ours := p[1], p[0]
		if i == 0 {
			theirs, ours = p[0], p[1]
		}
		s.theirs[i] = theirs
		_ = unix.SetNonblock(ours, true)
		file := os.NewFile(uintptr(ours), "pipe")
		if i == 0 {
			s.ours.stdin = file
		} else {
			s.ours.outputs = append(s.ours.outputs, file)
		}
	}
	return s, nil
}

// openTerminal makes a terminal of that size, which belongs to uid.
func openTerminal(rows, cols uint16, uid uint32) (*stdio, error) {
	master, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "/dev/ptmx", Err: err}
	}
	file := os.NewFile(uintptr(master), "/dev/ptmx")
	slave, err := openSlave(master)
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	if uid != 0 {
		_ = unix.Fchown(slave, int(uid), -1)
	}
	if modes, err := unix.IoctlGetTermios(slave, unix.TCGETS); err == nil {
		modes.Iflag |= unix.IUTF8
		_ = unix.IoctlSetTermios(slave, unix.TCSETS, modes)
	}
	s := &stdio{theirs: [3]int{slave, slave, slave}, tty: true}
	s.ours = process{tty: true, stdin: file, outputs: []*os.File{file}, held: slave}
	if rows != 0 || cols != 0 {
		s.ours.resize(rows, cols)
	}
	return s, nil
}

func openSlave(master int) (int, error) {
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return 0, os.NewSyscallError("unlock terminal", err)
	}
	// By descriptor, so that it works wherever devpts is mounted.
	fd, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return 0, os.NewSyscallError("open terminal", errno)
	}
	return int(fd), nil
}

// closeTheirs closes the command's ends once it has them. Of a terminal we hold
// its end as well: a command may close all of its descriptors and open
// /dev/tty later, and must not be hung up in between.
func (s *stdio) closeTheirs() {
	for i, fd := range s.theirs {
		if fd >= 0 && !s.tty {
			_ = unix.Close(fd)
			s.theirs[i] = -1
		}
	}
}

// closeAll is for a command that was not started.
func (s *stdio) closeAll() {
	s.closeTheirs()
	s.ours.release()
	if s.ours.stdin != nil {
		_ = s.ours.stdin.Close()
	}
	for _, f := range s.ours.outputs {
		_ = f.Close()
	}
}

// release lets go of the terminal: after it, its end can be read.
func (p *process) release() {
	if p.held >= 0 {
		_ = unix.Close(p.held)
		p.held = -1
	}
}

// wait reaps the process. Waiting by descriptor costs no thread.
func (p *process) wait() syscall.WaitStatus {
	var status syscall.WaitStatus
	flags := syscall.WNOHANG
	reap := func(uintptr) bool {
		for {
			pid, err := syscall.Wait4(p.pid, &status, flags, nil)
			if err == syscall.EINTR {
				continue
			}
			return pid == p.pid || err != nil
		}
	}
	defer func() { _ = p.pidfd.Close() }()
	rc, err := p.pidfd.SyscallConn()
	if err == nil {
		err = rc.Read(reap)
	}
	if err != nil { // no polling on it after all
		flags = 0
		reap(0)
	}
	return status
}

// resize sets the size of the terminal; without one it does nothing.
func (p *process) resize(rows, cols uint16) {
	if !p.tty {
		return
	}
	if rc, err := p.stdin.SyscallConn(); err == nil {
		_ = rc.Control(func(fd uintptr) {
			_ = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols})
		})
	}
}

// endOfFileKey is the key that ends the input of a terminal, unless its program
// reads keys one by one.
func endOfFileKey(terminal *os.File) (key byte, ok bool) {
	rc, err := terminal.SyscallConn()
	if err != nil {
		return 0, false
	}
	_ = rc.Control(func(fd uintptr) {
		modes, err := unix.IoctlGetTermios(int(fd), unix.TCGETS)
		if err == nil && modes.Lflag&unix.ICANON != 0 {
			key, ok = modes.Cc[unix.VEOF], true
		}
	})
	return key, ok
}
