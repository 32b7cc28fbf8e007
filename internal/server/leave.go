package server

import (
	"context"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
)

// settleTime is how long after the last change a daemon may be replaced: whoever
// has begun an operation is to see how it ended.
const settleTime = time.Second

// Leave has every request from now on refused, in a way that tells the client
// that nothing was done and the next daemon is to be asked; those under way go
// on, and so does what follows and cancels operations, which are nowhere else.
func (s *Server) Leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leave = true
}

// LeaveIfIdle is Leave if nothing is being answered, no operation runs and the
// last request ended as long ago as idle. It says whether it has left: no
// request slips in between the look and the leaving.
func (s *Server) LeaveIfIdle(idle time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active == 0 && s.Operations.Running() == 0 && time.Since(s.last) >= idle {
		s.leave = true
	}
	return s.leave
}

// leaveIfQuiet is Leave if nothing is being changed. Who only reads can do so
// from the next daemon.
func (s *Server) leaveIfQuiet() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changes == 0 && s.Operations.Running() == 0 && time.Since(s.changed) >= settleTime {
		s.leave = true
	}
	return s.leave
}

// drainPoll is how often drain looks whether it is done.
const drainPoll = 2 * time.Millisecond

// drain closes the listener and waits until every connection it gave is
// answered. http.Server by itself drops requests that it reads after its end has
// begun, and their clients could not know whether they were done; those that were
// never accepted are told by the kernel.
func (s *Server) drain(ctx context.Context) {
	s.mu.Lock()
	l := s.listener
	s.closing = l != nil
	s.mu.Unlock()
	if l == nil {
		return
	}
	_ = l.Close()
	<-s.served
	tick := time.NewTicker(drainPoll)
	defer tick.Stop()
	for s.open() > 0 {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (s *Server) open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// track is http.Server's ConnState.
func (s *Server) track(conn net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if state == http.StateNew || state == http.StateActive {
		s.conns[conn] = true
		return
	}
	delete(s.conns, conn)
}

// begin counts a request in; false refuses it.
func (s *Server) begin(r *http.Request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leave && r.URL.Path != api.RouteDaemonStop && !strings.HasPrefix(r.URL.Path, "/v1/operations/") {
		return false
	}
	s.active++
	if isChange(r) {
		s.changes++
	}
	return true
}

func (s *Server) end(r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active--
	s.last = time.Now()
	if isChange(r) {
		s.changes--
		s.changed = s.last
	}
}

func isChange(r *http.Request) bool {
	return r.Method != http.MethodGet && r.URL.Path != api.RouteDaemonStop
}

// refuse answers what came after Leave.
func (s *Server) refuse(w http.ResponseWriter) {
	w.Header().Set(api.HeaderAPI, strconv.Itoa(api.Version))
	w.Header().Set(api.HeaderVersion, s.Version)
	w.Header().Set(api.HeaderLeaving, "true")
	w.Header().Set("Connection", "close")
	writeError(w, banger.Errorf(banger.KindUnavailable, "the daemon is just ending").WithNext("try again"))
}

// stopDaemon answers first: the client must not take our end for a crash.
func (s *Server) stopDaemon(w http.ResponseWriter, r *http.Request) {
	switch r.FormValue("when") {
	case "":
		s.Leave()
	case "idle":
		if !s.leaveIfQuiet() {
			writeError(w, banger.Errorf(banger.KindConflict, "the daemon is at work").WithNext("banger vm list"))
			return
		}
	default:
		writeError(w, banger.Errorf(banger.KindInvalid, "when=%q: must be idle, or absent", r.FormValue("when")))
		return
	}
	w.WriteHeader(http.StatusAccepted)
	_ = http.NewResponseController(w).Flush() // the client is gone; we stop all the same
	s.Stop()
}
