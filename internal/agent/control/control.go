// Package control is the control port: a few small HTTP/1.1 requests by which
// the host asks how the guest is and tells it to power off. It speaks just the
// HTTP that it needs, because net/http would double the agent and cost every
// boot more than the rest of the agent does.
package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"banger.dev/banger/internal/agent/wire"
)

// Server answers the control port. Its fields are set before the first Serve.
type Server struct {
	Hello    func() wire.Hello
	Init     func() wire.InitStatus
	Shutdown func() error // asks the guest to power off, and does not wait for it
	Grow     func(bytes uint64) error
	// Asks answer what is got from these paths.
	Asks map[string]func() (any, error)
	// Streams answer what is posted to these paths, of which body or answer may be
	// of any length. An error before the first byte of the answer is a status,
	// later it is a trailer.
	Streams map[string]func(body io.Reader, answer io.Writer) error
}

// Serve answers the requests of one connection until it ends.
func (s *Server) Serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	r := newReader(conn)
	for {
		req, err := r.next()
		var bad *statusError
		if errors.As(err, &bad) {
			_ = respond(conn, bad.status, errorBody{bad.message}, true)
			return
		}
		if err != nil {
			return
		}
		if handle := s.Streams[req.path]; handle != nil && req.method == "POST" {
			serveStream(conn, req.stream(r.b), handle)
			return
		}
		if req.chunked {
			_ = respond(conn, 501, errorBody{"Transfer-Encoding is not understood; send Content-Length"}, true)
			return
		}
		status, body := s.answer(req)
		if respond(conn, status, body, req.close) != nil || req.close {
			return
		}
	}
}

type errorBody struct {
	Error string `json:"error"`
}

func (s *Server) answer(req request) (status int, body any) {
	type route struct{ method, path string }
	switch (route{req.method, req.path}) {
	case route{"GET", wire.PathHello}:
		return 200, s.Hello()
	case route{"GET", wire.PathInit}:
		return 200, s.Init()
	case route{"POST", wire.PathShutdown}:
		if err := s.Shutdown(); err != nil {
			return 500, errorBody{err.Error()}
		}
		return 202, struct{}{}
	case route{"GET", wire.PathClock}:
		return 200, wire.Clock{UnixNano: time.Now().UnixNano()}
	case route{"POST", wire.PathClock}:
		return setClock(req.body)
	case route{"POST", wire.PathGrow}:
		return s.grow(req.body)
	}
	if ask := s.Asks[req.path]; ask != nil && req.method == "GET" {
		return answered(ask())
	}
	return 404, errorBody{fmt.Sprintf("the agent has no %s %s", req.method, req.path)}
}

func answered(body any, err error) (int, any) {
	if err != nil {
		return 500, errorBody{err.Error()}
	}
	return 200, body
}

func (s *Server) grow(body []byte) (int, any) {
	var g wire.Grow
	if err := json.Unmarshal(body, &g); err != nil || g.Bytes == 0 {
		return 400, errorBody{"the body is no size: " + string(body)}
	}
	if err := s.Grow(g.Bytes); err != nil {
		return 500, errorBody{err.Error()}
	}
	return 200, struct{}{}
}

func setClock(body []byte) (int, any) {
	var c wire.Clock
	if err := json.Unmarshal(body, &c); err != nil || c.UnixNano <= 0 {
		return 400, errorBody{"the body is no clock: " + string(body)}
	}
	t := unix.NsecToTimespec(c.UnixNano)
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &t); err != nil {
		return 500, errorBody{"setting the clock to " + time.Unix(0, c.UnixNano).UTC().Format(time.RFC3339) + ": " + err.Error()}
	}
	return 200, struct{}{}
}
