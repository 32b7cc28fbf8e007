package command

import (
	"fmt"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"banger.dev/banger/internal/agent/wire"
)

// creditStep is how much stdin is taken before the host is told so.
const creditStep = wire.InitialCredit / 4

// stdin carries bytes from the client to the command. Its methods never wait:
// what the command does not take at once is queued, and the client's credit
// bounds the queue. What the command no longer wants is dropped, and that is no
// error: it is for the command to say how much of its input it needs.
type stdin struct {
	file   *os.File
	tty    bool
	credit func(uint32) error

	mu      sync.Mutex
	wake    sync.Cond
	queue   ring
	held    int  // bytes of the client's credit that are used up
	taken   int  // of these, bytes taken since the last FrameCredit
	ending  bool // the client has sent its last
	midline bool // the client's last byte was no newline
	closed  bool // the command takes no more
	stopped bool // the command has ended
	working bool // the worker runs
	grown   bool // the pipe has been enlarged
}

func newStdin(file *os.File, tty bool, credit func(uint32) error) *stdin {
	s := &stdin{file: file, tty: tty, credit: credit}
	s.wake.L = &s.mu
	return s
}

// write takes p. An error means that the client has broken the protocol.
func (s *stdin) write(p []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held += len(p)
	if s.held > wire.InitialCredit {
		return fmt.Errorf("%w: more stdin than there was credit for", wire.ErrFrame)
	}
	if s.ending {
		return fmt.Errorf("%w: stdin after its end", wire.ErrFrame)
	}
	if len(p) > 0 {
		s.midline = p[len(p)-1] != '\n'
	}
	s.put(p)
	return nil
}

// end closes the command's stdin behind all that was written. A terminal is not
// closed but sent its end-of-file key; on a line already begun it takes two,
// because the first only hands over what was typed.
func (s *stdin) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending {
		return
	}
	s.ending = true
	if s.tty {
		if key, ok := endOfFileKey(s.file); ok {
			keys := []byte{key, key}
			if !s.midline {
				keys = keys[:1]
			}
			s.put(keys)
		}
		return
	}
	if s.queue.len() == 0 {
		s.close()
	}
}

// stop ends it all when the command has ended.
func (s *stdin) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	s.close()
	s.wake.Signal()
}

// put writes what goes at once and queues the rest. mu is held.
func (s *stdin) put(p []byte) {
	if s.queue.len() == 0 {
		p = p[s.tryWrite(p):]
		if len(p) > 0 && s.grow() {
			p = p[s.tryWrite(p):]
		}
	}
	s.queue.push(p)
	switch {
	case s.queue.len() == 0 && s.taken < creditStep:
	case s.working:
		s.wake.Signal()
	default:
		s.working = true
		go s.worker()
	}
}

// tryWrite writes as much of p as goes at once; it takes everything when the
// command has closed its end. mu is held.
func (s *stdin) tryWrite(p []byte) int {
	written := 0
	if !s.closed {
		written = s.writeNow(p)
	}
	if s.closed {
		written = len(p)
	}
	s.taken += written
	return written
}

func (s *stdin) writeNow(p []byte) (written int) {
	rc, err := s.file.SyscallConn()
	if err != nil {
		return 0
	}
	_ = rc.Write(func(fd uintptr) bool {
		for written < len(p) {
			// Raw, because the scheduler need not know of a call that cannot wait:
			// it would hand the processor on, which under emulation is dear.
			n, _, err := unix.RawSyscall(unix.SYS_WRITE, fd, uintptr(unsafe.Pointer(&p[written])), uintptr(len(p)-written))
			switch {
			case err == unix.EINTR:
				continue
			case err == unix.EAGAIN || err == 0 && n == 0:
				return true
			case err != 0:
				s.closed = true // closed for good by the worker or stop: not within its own use
				return true
			}
			written += int(n)
		}
		return true
	})
	return written
}

// worker does the two things that may have to wait: it writes what the command
// did not take at once, and hands out credit.
func (s *stdin) worker() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.stopped {
		switch {
		case s.taken >= creditStep:
			if !s.giveCredit() {
				return
			}
		case s.queue.len() > 0:
			s.writeQueue()
		case s.ending && !s.tty:
			s.close()
			return
		default:
			s.wake.Wait()
		}
	}
}

// giveCredit tells the client of what was taken. mu is not held while it waits.
func (s *stdin) giveCredit() bool {
	n := s.taken
	s.taken = 0
	s.held -= n
	s.mu.Unlock()
	err := s.credit(uint32(n))
	s.mu.Lock()
	return err == nil
}

// grow enlarges the pipe once, when there is more for it than it holds.
func (s *stdin) grow() bool {
	if s.tty || s.grown || s.closed {
		return false
	}
	s.grown = true
	growPipe(s.file)
	return true
}

// writeQueue waits until the command has taken some of what is queued. mu is
// not held while it waits.
func (s *stdin) writeQueue() {
	p := s.queue.peek()
	s.mu.Unlock()
	n, err := s.file.Write(p)
	s.mu.Lock()
	if s.stopped {
		return
	}
	if err != nil {
		s.closed = true
		n = s.queue.len()
	}
	s.queue.drop(n)
	s.taken += n
}

// close closes the pipe. The terminal is the output's as well, and stays open.
// mu is held.
func (s *stdin) close() {
	s.closed = true
	if !s.tty {
		_ = s.file.Close()
	}
}
