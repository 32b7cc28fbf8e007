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

// statsTimeout bounds how long guest and VMM may take to say what they count.
const statsTimeout = 2 * time.Second

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
		asked.Go(func() {
			if guest, err := m.control(m.currentChannel()).Stats(ctx); err == nil {
				s.Guest = &guest
			}
		})
	}
	if meter, ok := m.currentMachine().(vmm.Meter); ok {
		asked.Go(func() { s.Disks, _ = meter.Disks(ctx) })
	}
	asked.Wait()
	return s
}

// Stats asks what the VM has used. A guest that does not answer leaves its part
// out. A monitor of before this question is ErrOld.
func (c *Client) Stats(ctx context.Context) (Stats, error) {
	var s Stats
	return s, c.call(ctx, http.MethodGet, routeStats, &s)
}
