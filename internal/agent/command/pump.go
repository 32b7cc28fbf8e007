package command

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"banger.dev/banger/internal/agent/wire"
)

// pump carries a command's output to its client, then drops whatever background
// children still write, so that they neither hold the client nor die of SIGPIPE.
type pump struct {
	file    *os.File
	frame   wire.FrameType
	call    *call
	drained chan struct{} // closed when all that the command wrote is with the client
	lost    bool          // the client takes no more
}

func newPump(file *os.File, frame wire.FrameType, c *call) *pump {
	return &pump{file: file, frame: frame, call: c, drained: make(chan struct{})}
}

// drain tells the pump that the command has ended: what is in the pipe now is
// the last that counts.
func (p *pump) drain() { _ = p.file.SetReadDeadline(time.Unix(1, 0)) }

func (p *pump) run() {
	defer func() { _ = p.file.Close() }()
	err := p.forward()
	ended := !errors.Is(err, os.ErrDeadlineExceeded)
	if !ended {
		ended = p.forwardRest()
	}
	close(p.drained)
	if !ended && !p.call.proc.tty {
		p.discard()
	}
}

// forward copies until the end of the file, or the deadline that drain sets.
func (p *pump) forward() error {
	whole := p.call.server.buffer()
	defer p.call.server.buffers.Put(whole)
	buf := (*whole)[:wire.FrameHeaderSize+smallBuffer]
	for {
		n, err := p.file.Read(buf[wire.FrameHeaderSize:])
		p.send(buf[:wire.FrameHeaderSize+n])
		if err != nil {
			return err
		}
		if n == smallBuffer && len(buf) < len(*whole) { // there is much to carry
			buf = *whole
			growPipe(p.file)
		}
	}
}

// forwardRest copies what is there and no more; that is bounded, since a
// background child may write for ever. It says whether the file has ended.
func (p *pump) forwardRest() (ended bool) {
	rc, err := p.file.SyscallConn()
	if err != nil || p.file.SetReadDeadline(time.Time{}) != nil {
		return true
	}
	whole := p.call.server.buffer()
	defer p.call.server.buffers.Put(whole)
	buf := *whole
	for left := p.pending(rc); left > 0; {
		n, again := 0, false
		rerr := rc.Read(func(fd uintptr) bool {
			n, err = unix.Read(int(fd), buf[wire.FrameHeaderSize:min(len(buf), wire.FrameHeaderSize+left)])
			again = err == unix.EINTR
			return true
		})
		switch {
		case again:
			continue
		case rerr != nil || err == nil && n == 0 || err != nil && err != unix.EAGAIN:
			return true
		case err == unix.EAGAIN:
			return false
		}
		p.send(buf[:wire.FrameHeaderSize+n])
		left -= n
	}
	return false
}

// pending is how much the command can have left unread. A pipe says so; a
// terminal keeps part of it where only a read finds it.
func (p *pump) pending(rc interface{ Control(func(uintptr)) error }) int {
	if p.call.proc.tty {
		return bulkBuffer
	}
	n := 0
	_ = rc.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	return n
}

func (p *pump) send(frame []byte) {
	if p.lost || len(frame) == wire.FrameHeaderSize {
		return
	}
	p.lost = p.call.out.WriteInPlace(p.frame, frame) != nil
}

func (p *pump) discard() {
	buf := make([]byte, 4<<10)
	for {
		if _, err := p.file.Read(buf); err != nil {
			return
		}
	}
}

// growPipe asks for a pipe of a megabyte. Where that is not granted the pipe
// works as well, with more turns.
func growPipe(file *os.File) {
	rc, err := file.SyscallConn()
	if err != nil {
		return
	}
	_ = rc.Control(func(fd uintptr) { _, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, 1<<20) })
}
