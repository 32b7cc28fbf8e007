package guest

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/yamux"

	"banger.dev/banger/internal/agent/wire"
)

// Session is the host's end of one serial port: many streams over one. Its
// methods may be called from any goroutine.
type Session struct {
	mux     *yamux.Session
	gate    *gate
	opening chan struct{} // a token for each stream that is being opened
}

// maxOpening bounds the streams that are being opened at a time. A guest that
// reads nothing lets none of them be; whoever gives up leaves it for as long, so
// without a bound each further try would leave one more.
const maxOpening = 64

// NewSession begins to multiplex rw, on which wire.SyncHost has succeeded. The
// session owns rw from here on. It ends if the guest opens a stream: all are the
// host's.
func NewSession(rw io.ReadWriteCloser) (*Session, error) {
	gate := newGate(wire.Coalesce(rw))
	mux, err := yamux.Client(gate, wire.YamuxConfig())
	if err != nil {
		return nil, fmt.Errorf("guest channel: %w", err)
	}
	return &Session{mux: mux, gate: gate, opening: make(chan struct{}, maxOpening)}, nil
}

// Open opens a stream to a port of the guest. A port on which nothing listens
// is only known by the stream's end. An error means that the session is over,
// or ctx.
func (s *Session) Open(ctx context.Context, port uint32) (net.Conn, error) {
	type opened struct {
		conn *stream
		err  error
	}
	if s.gate.hoarding() {
		return nil, fmt.Errorf("guest channel: port %d: %w", port, errHoarding)
	}
	select {
	case s.opening <- struct{}{}:
	case <-s.Done():
		return nil, fmt.Errorf("guest channel: port %d: %w", port, yamux.ErrSessionShutdown)
	case <-ctx.Done():
		return nil, fmt.Errorf("guest channel: port %d: %w", port, context.Cause(ctx))
	}
	// A paused guest reads nothing, so that opening may block for as long.
	done := make(chan opened, 1)
	go func() {
		defer func() { <-s.opening }()
		conn, err := s.mux.OpenStream()
		if err == nil {
			err = wire.WritePort(conn, port)
		}
		done <- opened{&stream{Stream: conn}, err}
	}()
	select {
	case o := <-done:
		if o.err != nil {
			return nil, fmt.Errorf("guest channel: port %d: %w", port, o.err)
		}
		return o.conn, nil
	case <-ctx.Done():
		go func() {
			if o := <-done; o.conn.Stream != nil {
				_ = o.conn.Close()
			}
		}()
		return nil, fmt.Errorf("guest channel: port %d: %w", port, context.Cause(ctx))
	}
}

// Done is closed when the session is over: Close was called, the stream under
// it ended, or the guest's agent was restarted.
func (s *Session) Done() <-chan struct{} { return s.mux.CloseChan() }

// Blame says what the guest did for which the session was ended, nil for every
// other end.
func (s *Session) Blame() error { return s.gate.blamed() }

// Close ends every stream and closes the connection under them.
func (s *Session) Close() error { return s.mux.Close() }

// stream is one of a session's. Its reads take turns: two at a time take yamux's
// locks in another order each, and with them the whole session stands still.
type stream struct {
	*yamux.Stream
	reading sync.Mutex
}

func (s *stream) Read(p []byte) (int, error) {
	s.reading.Lock()
	defer s.reading.Unlock()
	return s.Stream.Read(p)
}

// Close ends both ways. What has come and was not read would be kept until the
// guest closes the stream too.
func (s *stream) Close() error {
	err := s.Stream.Close()
	_ = s.SetReadDeadline(time.Unix(1, 0)) // also of a Read that is under way
	s.reading.Lock()
	defer s.reading.Unlock()
	_, _ = io.Copy(io.Discard, s.Stream)
	s.Shrink()
	return err
}
