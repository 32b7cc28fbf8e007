package monitor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"banger.dev/banger/internal/guest"
	"banger.dev/banger/internal/ipc"
	"banger.dev/banger/internal/vmm"
)

// Routes on monitor.sock. There is no OpenAPI document: daemon and monitor are
// of one build or a few apart, and fields are only added.
const (
	routeStatus   = "/status"   // GET → Status
	routeReady    = "/ready"    // GET → Status once the guest is ready
	routeEvents   = "/events"   // GET → NDJSON of Status at each change, until the end
	routeShutdown = "/shutdown" // POST ?timeout_ms= → shutdownReply when the VMM is gone and exit.json there
	routeKill     = "/kill"     // POST → 200 when the VMM is gone and exit.json there
	routePause    = "/pause"    // POST → 200
	routeResume   = "/resume"   // POST → 200
	routeInit     = "/init"     // GET → wire.InitStatus, asked of the agent
	routeClock    = "/clock"    // GET → clockReply; POST sets the guest's clock → clockReply of before
	routeStats    = "/stats"    // GET → Stats
	RouteLease    = "/lease"    // GET: the reply's body lasts as long as the client wants the VM
)

type shutdownReply struct {
	Killed bool `json:"killed"`
}

// countsEvery is how often followers are told what the network has counted:
// metrics are scraped about so often.
const countsEvery = 10 * time.Second

// closeTimeout bounds how long a monitor that ends waits for its last replies.
const closeTimeout = 2 * time.Second

// server answers on the VM's two sockets.
type server struct {
	m       *monitor
	http    *http.Server
	control net.Listener
	guest   net.Listener
	wg      sync.WaitGroup

	mu      sync.Mutex
	waiters chan struct{} // closed and replaced at each change
}

// listen makes the sockets. Whoever connects waits until serve.
func listen(m *monitor) (*server, error) {
	if err := ipc.PrivateDir(m.order.Files.Run); err != nil {
		return nil, err
	}
	control, err := listenAt(m.order.Files.MonitorSocket())
	if err != nil {
		return nil, err
	}
	data, err := listenAt(m.order.Files.GuestSocket())
	if err != nil {
		_ = control.Close()
		return nil, err
	}
	s := &server{m: m, control: control, guest: data, waiters: make(chan struct{})}
	s.http = &http.Server{Handler: s.routes(), ReadHeaderTimeout: 10 * time.Second}
	return s, nil
}

// serve begins to answer; there is a machine by now.
func (s *server) serve() {
	s.wg.Go(func() { _ = s.http.Serve(s.control) })
	proxy := &guest.Proxy{Open: s.openGuest, Log: s.m.log, Idle: s.m.idle}
	s.wg.Go(func() { _ = proxy.Serve(context.Background(), s.guest) })
}

// listenAt listens on a socket of ours. An old one is a dead monitor's: we hold
// the VM's lock.
func listenAt(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return ipc.Listen(path)
}

func (s *server) openGuest(ctx context.Context, port uint32) (net.Conn, error) {
	s.m.streams.Add(1)
	return s.m.currentChannel().open(ctx, port)
}

// changed wakes those who wait for a change of the status.
func (s *server) changed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.waiters)
	s.waiters = make(chan struct{})
}

func (s *server) change() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waiters
}

// close ends both sockets after the replies under way. The monitor's done
// channel has been closed before, which ends the long ones.
func (s *server) close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = s.guest.Close()
	if s.http.Shutdown(ctx) != nil {
		_ = s.http.Close()
	}
	_ = s.control.Close() // where serve was never called
	s.wg.Wait()
	_ = os.RemoveAll(s.m.order.Files.Run)
}

func (s *server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+routeStatus, s.getStatus)
	mux.HandleFunc("GET "+routeReady, s.getReady)
	mux.HandleFunc("GET "+routeEvents, s.getEvents)
	mux.HandleFunc("GET "+routeInit, s.getInit)
	mux.HandleFunc("GET "+RouteLease, s.getLease)
	mux.HandleFunc("GET "+routeStats, s.getStats)
	mux.HandleFunc("GET "+routeClock, s.getClock)
	mux.HandleFunc("POST "+routeClock, s.postClock)
	mux.HandleFunc("POST "+routeShutdown, s.postShutdown)
	mux.HandleFunc("POST "+routeKill, s.postKill)
	mux.HandleFunc("POST "+routePause, s.postPause)
	mux.HandleFunc("POST "+routeResume, s.postResume)
	mux.HandleFunc("PUT "+routePorts, s.putPorts)
	mux.HandleFunc("POST "+routeGrow, s.postGrow)
	return mux
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func (s *server) getStatus(w http.ResponseWriter, _ *http.Request) { reply(w, s.m.status()) }

func (s *server) getReady(w http.ResponseWriter, r *http.Request) {
	select {
	case <-s.m.readiness():
		reply(w, s.m.status())
	case <-s.m.done:
		http.Error(w, "the VM has ended", http.StatusGone)
	case <-r.Context().Done():
	}
}

func (s *server) getEvents(w http.ResponseWriter, r *http.Request) {
	out := http.NewResponseController(w)
	w.Header().Set("Content-Type", "application/x-ndjson")
	for {
		change := s.change()
		status := s.m.status()
		if json.NewEncoder(w).Encode(status) != nil || out.Flush() != nil || !s.news(r.Context(), change, status) {
			return
		}
	}
}

// news waits for what a follower who was told a status is to be told next: any
// change, and now and then what the network has counted. It is false at the end.
func (s *server) news(ctx context.Context, change <-chan struct{}, told Status) bool {
	counted := time.NewTicker(countsEvery)
	defer counted.Stop()
	for {
		select {
		case <-change:
			return true
		case <-counted.C:
			if now := s.m.status().Network; now != nil && told.Network != nil && *now != *told.Network {
				return true
			}
		case <-s.m.done:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

func (s *server) getInit(w http.ResponseWriter, r *http.Request) {
	status, err := s.m.control(s.m.currentChannel()).InitStatus(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	reply(w, status)
}

func (s *server) getLease(w http.ResponseWriter, r *http.Request) {
	release := s.m.leases.take()
	defer release()
	w.WriteHeader(http.StatusOK)
	if http.NewResponseController(w).Flush() != nil {
		return
	}
	select {
	case <-s.m.done:
	case <-r.Context().Done():
	}
}

func (s *server) postShutdown(w http.ResponseWriter, r *http.Request) {
	ms, err := strconv.ParseInt(r.FormValue("timeout_ms"), 10, 64)
	if err != nil || ms <= 0 {
		http.Error(w, fmt.Sprintf("timeout_ms=%q: not a number of milliseconds", r.FormValue("timeout_ms")), http.StatusBadRequest)
		return
	}
	// The daemon's death must not leave a guest half shut down.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), time.Duration(ms)*time.Millisecond)
	defer cancel()
	killed := s.m.shutdown(ctx)
	<-s.m.done
	reply(w, shutdownReply{Killed: killed})
}

func (s *server) postKill(w http.ResponseWriter, _ *http.Request) {
	s.m.end(ReasonKilled, "killed")
	<-s.m.done // a guest that was rebooting has had another VMM started
	reply(w, struct{}{})
}

func (s *server) postPause(w http.ResponseWriter, r *http.Request) {
	s.pauser(w, func(p vmm.Pauser) error { return p.Pause(r.Context()) })
}

func (s *server) postResume(w http.ResponseWriter, r *http.Request) {
	s.pauser(w, func(p vmm.Pauser) error { return p.Resume(r.Context()) })
}

func (s *server) pauser(w http.ResponseWriter, do func(vmm.Pauser) error) {
	err := vmm.ErrUnsupported
	if p, ok := s.m.currentMachine().(vmm.Pauser); ok {
		err = do(p)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	reply(w, struct{}{})
}
