package command

import (
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"banger.dev/banger/internal/agent/wire"
)

// call is one running command and the client it runs for.
type call struct {
	server *Server
	conn   net.Conn
	in     *wire.FrameReader
	out    *wire.FrameWriter
	proc   *process
	stdin  *stdin

	mu    sync.Mutex
	ended bool        // the command has been reaped: its pid is no longer ours
	kill  *time.Timer // after the client was lost
}

// run ends when the client has been told how the command ended, or is gone.
func (c *call) run() {
	c.stdin = newStdin(c.proc.stdin, c.proc.tty, c.credit)
	pumps := make([]*pump, 0, 2)
	for i, file := range c.proc.outputs {
		p := newPump(file, wire.FrameStdout+wire.FrameType(i), c)
		pumps = append(pumps, p)
		go p.run()
	}
	go c.serveClient()
	status := c.proc.wait()
	c.reaped()
	c.stdin.stop()
	for _, p := range pumps {
		p.drain()
	}
	for _, p := range pumps {
		<-p.drained
	}
	c.proc.release()
	if status.Signaled() {
		_ = c.out.WriteExit(wire.Exit{Signal: int(status.Signal())})
	} else {
		code := status.ExitStatus()
		_ = c.out.WriteExit(wire.Exit{Code: &code})
	}
	_ = c.conn.Close()
	_ = c.conn.SetReadDeadline(time.Unix(1, 0)) // a yamux stream is read on after Close
}

// serveClient does what the client says until there is no more of it.
func (c *call) serveClient() {
	for {
		t, payload, err := c.in.Next()
		if err == nil {
			err = c.obey(t, payload)
		}
		if err != nil {
			c.lost()
			return
		}
	}
}

func (c *call) obey(t wire.FrameType, payload []byte) error {
	switch t {
	case wire.FrameStdin:
		return c.stdin.write(payload)
	case wire.FrameStdinEnd:
		c.stdin.end()
	case wire.FrameResize:
		rows, cols, err := wire.ParseResize(payload)
		if err != nil {
			return err
		}
		c.proc.resize(rows, cols)
	case wire.FrameSignal:
		signal, err := wire.ParseSignal(payload)
		if err != nil {
			return err
		}
		c.signal(syscall.Signal(signal))
	default:
		return fmt.Errorf("%w: frame of type %d from the host", wire.ErrFrame, t)
	}
	return nil
}

func (c *call) credit(n uint32) error { return c.out.WriteUint32(wire.FrameCredit, n) }

// signal signals the command's process group while the command is there.
func (c *call) signal(s syscall.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended {
		_ = syscall.Kill(-c.proc.pid, s)
	}
}

// lost is called once, when the client is gone.
func (c *call) lost() {
	_ = c.conn.Close() // whoever waits to write to it gives up
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	_ = syscall.Kill(-c.proc.pid, syscall.SIGHUP)
	c.kill = time.AfterFunc(killAfter, func() { c.signal(syscall.SIGKILL) })
}

func (c *call) reaped() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	if c.kill != nil {
		c.kill.Stop()
	}
}

func failed(code int, format string, args ...any) wire.Exit {
	return wire.Exit{Error: problem(code, format, args...)}
}

func problem(code int, format string, args ...any) *wire.Error {
	return &wire.Error{Code: code, Message: fmt.Sprintf(format, args...)}
}
