package servertest

import (
	"context"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"banger.dev/banger"
)

// Events is server.Events over a list. The zero value has no events in it.
type Events struct {
	Pruned int64 // the ids up to this one are forgotten

	mu      sync.Mutex
	list    []banger.Event
	changed chan struct{}
}

// Add adds an event; its id is one more than the last.
func (l *Events) Add(e banger.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e.ID = l.Pruned + int64(len(l.list)) + 1
	l.list = append(l.list, e)
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// Emit is server.Events's.
func (l *Events) Emit(_ context.Context, e banger.Event) { l.Add(e) }

// Bounds is server.Events's.
func (l *Events) Bounds(context.Context) (newest, pruned int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Pruned + int64(len(l.list)), l.Pruned, nil
}

// Follow is server.Events's; it knows no filter but the type.
func (l *Events) Follow(ctx context.Context, after int64, filter banger.EventFilter, follow bool, each func(banger.Event) error) error {
	for {
		l.mu.Lock()
		list := slices.Clone(l.list)
		if l.changed == nil {
			l.changed = make(chan struct{})
		}
		changed := l.changed
		l.mu.Unlock()
		for _, e := range list {
			if e.ID <= after || len(filter.Types) > 0 && !slices.Contains(filter.Types, e.Type) {
				continue
			}
			if err := each(e); err != nil {
				return err
			}
			after = e.ID
		}
		if !follow {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Metrics is server.Metrics that keeps the routes it was told.
type Metrics struct {
	mu     sync.Mutex
	routes []string
}

// ServeHTTP is server.Metrics's.
func (m *Metrics) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	_, _ = io.WriteString(w, "# metrics\n") // the client is gone
}

// Request is server.Metrics's.
func (m *Metrics) Request(route string, _ int, _ time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.routes = append(m.routes, route)
}

// Routes are those of the requests so far.
func (m *Metrics) Routes() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.routes)
}

// Operation is server.Metrics's.
func (m *Metrics) Operation(string) (ended func(string)) { return func(string) {} }
