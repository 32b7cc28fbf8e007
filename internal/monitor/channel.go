package monitor

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"banger.dev/banger/internal/agent/wire"
	"banger.dev/banger/internal/guest"
	"banger.dev/banger/internal/vmm"
)

// channel keeps the one session with the guest's agent. The guest opens and
// closes its end of the serial port, at boot and when its agent is restarted;
// each opening begins a new session.
type channel struct {
	stream vmm.Stream
	log    *slog.Logger

	mu      sync.Mutex
	session *guest.Session
	changed chan struct{} // closed and replaced whenever session is
	current *interruptible
	ended   bool
}

func newChannel(stream vmm.Stream, log *slog.Logger) *channel {
	return &channel{stream: stream, log: log, changed: make(chan struct{})}
}

var errChannelEnded = errors.New("the VM has ended")

// opened begins a session; established is called when the agent has answered.
func (c *channel) opened(established func()) {
	c.closed() // an end that opens has been closed before, whether we heard of it or not
	end := &interruptible{stream: c.stream}
	c.mu.Lock()
	if c.ended {
		c.mu.Unlock()
		return
	}
	_ = c.stream.SetDeadline(time.Time{})
	c.current = end
	c.mu.Unlock()
	go func() {
		if err := wire.SyncHost(end); err != nil {
			c.log.Warn("guest channel: no handshake", "err", err)
			return
		}
		session, err := guest.NewSession(end)
		if err != nil {
			c.log.Warn("guest channel: no session", "err", err)
			return
		}
		if !c.set(end, session) {
			_ = session.Close()
			return
		}
		established()
		<-session.Done()
		if err := session.Blame(); err != nil {
			c.log.Warn("guest channel: the session is ended", "err", err)
		}
	}()
}

// set publishes the session that runs over end, unless end is out of date.
func (c *channel) set(end *interruptible, session *guest.Session) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current != end {
		return false
	}
	c.session = session
	close(c.changed)
	c.changed = make(chan struct{})
	return true
}

// closed ends the session: every stream in it breaks.
func (c *channel) closed() {
	c.mu.Lock()
	session, current := c.session, c.current
	c.session, c.current = nil, nil
	c.mu.Unlock()
	if current != nil {
		_ = current.Close()
	}
	if session != nil {
		_ = session.Close()
	}
}

// end closes the channel for good; whoever waits in open gives up.
func (c *channel) end() {
	c.mu.Lock()
	if !c.ended {
		c.ended = true
		close(c.changed)
	}
	c.mu.Unlock()
	c.closed()
}

// isOver says whether end was called.
func (c *channel) isOver() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended
}

// open opens a stream to a port of the guest, waiting for a session until ctx ends.
func (c *channel) open(ctx context.Context, port uint32) (net.Conn, error) {
	for {
		c.mu.Lock()
		session, changed, ended := c.session, c.changed, c.ended
		c.mu.Unlock()
		if ended {
			return nil, errChannelEnded
		}
		if session != nil && !over(session) {
			return session.Open(ctx, port)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// over says whether the guest has broken the session off, of which we hear by an
// event a moment later.
func over(s *guest.Session) bool {
	select {
	case <-s.Done():
		return true
	default:
		return false
	}
}

// interruptible lends the machine's stream to one session. Closing it ends that
// session's reads and writes and leaves the stream open for the next.
type interruptible struct {
	stream vmm.Stream
	closed atomic.Bool
	using  sync.RWMutex // held for reading during a read or a write
}

func (i *interruptible) Read(p []byte) (int, error) {
	i.using.RLock()
	defer i.using.RUnlock()
	if i.closed.Load() {
		return 0, io.EOF
	}
	return i.stream.Read(p)
}

func (i *interruptible) Write(p []byte) (int, error) {
	i.using.RLock()
	defer i.using.RUnlock()
	if i.closed.Load() {
		return 0, io.ErrClosedPipe
	}
	return i.stream.Write(p)
}

// Close returns when no read or write of this session is under way any more, so
// none can take a byte from the next.
func (i *interruptible) Close() error {
	if i.closed.Swap(true) {
		return nil
	}
	err := i.stream.SetDeadline(time.Now())
	i.using.Lock()
	defer i.using.Unlock()
	return err
}
