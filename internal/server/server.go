// Package server answers the daemon's HTTP requests: decode, call, encode. The
// routes and bodies are those of internal/api; what they do is behind VMs and
// the operations. It decides nothing about VMs and opens no path that a client
// names.
package server

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
	"banger.dev/banger/internal/lifecycle"
	"banger.dev/banger/internal/operation"
	"banger.dev/banger/internal/version"
)

// Bounds of what a client may send and how long it may take.
const (
	headerTimeout = 10 * time.Second
	bodyTimeout   = 10 * time.Second
	idleTimeout   = time.Minute
	maxHeader     = 64 << 10
	maxBody       = 1 << 20
)

// Result is what an operation of this server comes to.
type Result struct {
	Detail  banger.Detail
	Image   *banger.Image  // of what makes one, which has no detail
	Kernel  *banger.Kernel // the same
	Outcome lifecycle.Outcome
}

// imageResult is what an operation comes to that makes an image.
func imageResult(img banger.Image, changed bool) Result {
	return Result{Image: &img, Outcome: lifecycle.Outcome{Changed: changed}}
}

// kernelResult is what an operation comes to that makes a kernel.
func kernelResult(k banger.Kernel, changed bool) Result {
	return Result{Kernel: &k, Outcome: lifecycle.Outcome{Changed: changed}}
}

// thing is the image or the kernel.
func (r Result) thing() any {
	if r.Image != nil {
		return r.Image
	}
	return r.Kernel
}

// Config is what a Server is made of. All of it is required but Build.
type Config struct {
	VMs        VMs
	Images     Images
	Kernels    Kernels
	Doctor     Doctor
	Space      Space
	Operations *operation.Registry[Result]
	Events     Events
	Metrics    Metrics
	Stop       func() // asked to by a client, after the reply; it must not wait for the server
	Version    string // of this build
	Build      version.Build
	PID        int       // of this process
	Since      time.Time // when it started
	Log        *slog.Logger
}

// Events is what has happened, and where it is told. Methods are safe for concurrent use.
type Events interface {
	Emit(ctx context.Context, e banger.Event) // does not fail: an event may be lost
	// Bounds are the id of the newest event there ever was, and that of the
	// newest one that is pruned; 0 where there is none.
	Bounds(ctx context.Context) (newest, pruned int64, err error)
	// Follow gives each the events after an id that filter wants, in order, those
	// that are there and, with follow, those to come, until each or ctx says
	// stop. Events that were pruned meanwhile come as one banger.EventLost.
	Follow(ctx context.Context, after int64, filter banger.EventFilter, follow bool, each func(banger.Event) error) error
}

// Metrics counts what the server does, and shows what is counted. Methods are
// safe for concurrent use.
type Metrics interface {
	http.Handler
	Request(route string, status int, took time.Duration)
	// Operation says that one has begun; ended is to be called once.
	Operation(kind string) (ended func(status string))
}

// Server serves one daemon. All methods may be called from any goroutine.
type Server struct {
	Config
	handler    http.Handler
	http       *http.Server
	streams    context.Context // ends when Shutdown begins, and with it what never ends by itself
	endStreams context.CancelFunc
	served     chan struct{} // closed when Serve has taken its last connection

	// mu guards what follows.
	mu       sync.Mutex
	active   int       // requests that are being answered
	last     time.Time // when the last request ended
	leave    bool      // no request is taken any more
	closing  bool      // the listener has been closed by Shutdown
	listener net.Listener
	conns    map[net.Conn]bool // from which a request may still come, or is being answered
	changes  int               // those of active that change something
	changed  time.Time         // when the last of them ended
}

// New makes a server that does not listen yet.
func New(cfg Config) *Server {
	s := &Server{Config: cfg, last: cfg.Since, served: make(chan struct{}), conns: map[net.Conn]bool{}}
	cfg.Operations.Tell = s.tellOperation
	s.streams, s.endStreams = context.WithCancel(context.Background())
	mux := http.NewServeMux()
	s.routes(mux, s.newAPI(mux))
	s.handler = s.wrap(mux)
	s.http = &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ConnState:         s.track,
		ErrorLog:          slog.NewLogLogger(cfg.Log.Handler(), slog.LevelWarn),
	}
	return s
}

// newAPI sets huma up to take and give exactly the types of internal/api:
// neither links to schemas in the bodies nor its own form of errors.
func (s *Server) newAPI(mux *http.ServeMux) huma.API {
	config := huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title:       "banger",
				Description: "The daemon behind the banger command, over its unix socket.",
				Version:     s.Version,
			},
		},
		Formats:       map[string]huma.Format{"application/json": huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat},
		DefaultFormat: "application/json",
		Transformers:  []huma.Transformer{plainError},
	}
	config.FieldsOptionalByDefault = true
	made := humago.New(mux, config)
	made.UseMiddleware(plainStatus)
	return made
}

// Handler is the server without a listener.
func (s *Server) Handler() http.Handler { return s.handler }

// Serve answers at l until Shutdown, and is then nil.
func (s *Server) Serve(l net.Listener) error {
	s.mu.Lock()
	s.listener = l
	s.mu.Unlock()
	err := s.http.Serve(l)
	close(s.served)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing || err == http.ErrServerClosed {
		return nil
	}
	return err
}

// Shutdown closes the listener and waits for the requests under way. Those that
// are not answered when ctx ends are cut off; the error is then ctx's.
func (s *Server) Shutdown(ctx context.Context) error {
	s.endStreams()
	s.Leave()
	s.drain(ctx)
	err := s.http.Shutdown(ctx)
	if err != nil {
		_ = s.http.Close()
	}
	return err
}

// Activity is how many requests are being answered, and when the last one
// ended: at first, when the daemon started.
func (s *Server) Activity() (requests int, last time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.active, s.last
}

// ping says who answers.
func (s *Server) ping(context.Context, *struct{}) (*body[api.Ping], error) {
	return &body[api.Ping]{api.Ping{API: api.Version, Version: s.Version, PID: s.PID, Since: s.Since, Build: s.Build}}, nil
}
