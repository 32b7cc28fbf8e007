package daemon

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"
)

// house is what an idler looks at.
type house struct {
	alive, operations, clients atomic.Int64
	broken                     atomic.Bool
	looked                     chan struct{}
}

func (h *house) LeaveIfIdle(time.Duration) bool { return h.clients.Load() == 0 }

func (h *house) vms(context.Context) (int, error) {
	h.looked <- struct{}{}
	if h.broken.Load() {
		return 0, errors.New("the database does not answer")
	}
	return int(h.alive.Load()), nil
}

func TestLeavesWhenIdle(t *testing.T) {
	h := &house{looked: make(chan struct{})}
	var timeout atomic.Int64 // 0: never
	left := make(chan struct{})
	i := idler{
		server: h, operations: func() int { return int(h.operations.Load()) }, alive: h.vms,
		timeout: func() time.Duration { return time.Duration(timeout.Load()) }, log: slog.New(slog.DiscardHandler),
	}
	timeout.Store(int64(time.Nanosecond))
	h.alive.Store(1)
	go i.run(t.Context(), func() { close(left) })
	stays := func(why string) {
		t.Helper()
		for range 3 { // the looks that saw it
			select {
			case <-h.looked:
			case <-left:
				t.Fatalf("it left although %s", why)
			}
		}
	}
	stays("a VM is alive")
	h.operations.Store(1)
	h.alive.Store(0)
	stays("an operation runs")
	h.broken.Store(true)
	h.operations.Store(0)
	stays("nobody knows of the VMs")
	h.clients.Store(1)
	h.broken.Store(false)
	stays("a client is there")
	h.clients.Store(0)
	for {
		select {
		case <-h.looked:
			continue
		case <-left:
		}
		break
	}
}
