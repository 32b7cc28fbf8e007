package monitor

import (
	"context"
	"net/http"
	"sync"
	"time"

	"banger.dev/banger/internal/agent/wire"
	"banger.dev/banger/internal/network"
	"banger.dev/banger/internal/vmm"
)

const (
	// statsTimeout bounds how long the VMM may take to say what it counts.
	statsTimeout = time.Second
	// guestPatience is how long an answer of the guest's is waited for: a table of
	// many VMs waits for the slowest.
	guestPatience = 500 * time.Millisecond
	// guestTimeout is when a question that the guest does not answer is given up.
	guestTimeout = 2 * time.Second
	// guestRecent is how old an answer may be that is given to who asks.
	guestRecent = 3 * time.Second
)

// Stats is what a VM has used since its VMM was started, the network since its
// monitor was. What could not be learnt is nil.
type Stats struct {
	Network *network.Stats  `json:"network,omitempty"`
	Disks   []vmm.DiskCount `json:"disks,omitempty"` // in the order of the machine's
	Guest   *wire.Stats     `json:"guest,omitempty"`
}

func (s *server) getStats(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), statsTimeout)
	defer cancel()
	reply(w, s.m.stats(ctx))
}

func (m *monitor) stats(ctx context.Context) Stats {
	status := m.status()
	s := Stats{Network: status.Network}
	var asked sync.WaitGroup
	if status.Ready && !status.Paused { // or there is nobody to answer
		asked.Go(func() { s.Guest = m.guest.stats(ctx) })
	}
	if meter, ok := m.currentMachine().(vmm.Meter); ok {
		asked.Go(func() { s.Disks, _ = meter.Disks(ctx) })
	}
	asked.Wait()
	return s
}

// guestMeter asks the guest what it uses, one question at a time: a guest that is
// slow answers those who ask next.
type guestMeter struct {
	ask func(ctx context.Context) (wire.Stats, error)

	mu       sync.Mutex
	answered chan struct{} // closed when the question that is under way is over; nil if none is
	last     *wire.Stats   // what came of the last question; nil if nothing did
	at       time.Time     // when
}

// stats is what the guest says now, or has said lately; nil if it has not.
func (g *guestMeter) stats(ctx context.Context) *wire.Stats {
	wait := time.NewTimer(guestPatience)
	defer wait.Stop()
	select {
	case <-g.question():
	case <-wait.C:
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if time.Since(g.at) > guestRecent {
		return nil
	}
	return g.last
}

// question puts the question unless it is under way, and gives what is closed
// when it is over.
func (g *guestMeter) question() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.answered == nil {
		answered := make(chan struct{})
		g.answered = answered
		go func() {
			g.put()
			close(answered)
		}()
	}
	return g.answered
}

func (g *guestMeter) put() {
	ctx, cancel := context.WithTimeout(context.Background(), guestTimeout)
	defer cancel()
	s, err := g.ask(ctx)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.answered, g.last, g.at = nil, nil, time.Now()
	if err == nil {
		g.last = &s
	}
}

// Stats asks what the VM has used. A guest that does not answer leaves its part
// out. A monitor of before this question is ErrOld.
func (c *Client) Stats(ctx context.Context) (Stats, error) {
	var s Stats
	return s, c.call(ctx, http.MethodGet, routeStats, &s)
}
