package lifecycle

import (
	"context"
	"strconv"
	"sync"
	"time"

	"banger.dev/banger"
)

const (
	// driftTimeout is how long show waits for a guest to say what time it is.
	driftTimeout = time.Second
	// setClockTimeout is how long a guest may take to set its clock.
	setClockTimeout = 20 * time.Second
)

// SetClock sets a guest's clock to the host's, and says how far ahead of it it was.
func (m *Manager) SetClock(ctx context.Context, ref string) (drift time.Duration, err error) {
	rec, err := m.lookup(ctx, ref)
	if err != nil {
		return 0, err
	}
	if vm := m.observe(rec); vm.State != banger.StateRunning {
		return 0, banger.Errorf(banger.KindConflict, "VM %s is %s: only a running one has a clock", rec.Name, vm.State).
			WithNext("banger vm show %s", rec.Name)
	}
	return m.setClock(ctx, rec)
}

// SetClocks sets the clocks of all running VMs, after the host's own has jumped
// or stood still. One that does not answer holds up no other.
func (m *Manager) SetClocks(ctx context.Context) {
	all, err := m.Rows.List(ctx, m.Owner)
	if err != nil {
		m.Log.ErrorContext(ctx, "set the guests' clocks", "err", err)
		return
	}
	var wg sync.WaitGroup
	for _, rec := range all {
		if m.observe(rec).State != banger.StateRunning {
			continue
		}
		wg.Go(func() {
			if _, err := m.setClock(ctx, rec); err != nil {
				m.Log.WarnContext(ctx, "a guest's clock could not be set", "vm", rec.Name, "err", err)
			}
		})
	}
	wg.Wait()
}

func (m *Manager) setClock(ctx context.Context, rec banger.Record) (time.Duration, error) {
	asking, cancel := context.WithTimeout(ctx, setClockTimeout)
	defer cancel()
	drift, err := m.monitorOf(rec.ID).SetClock(asking)
	if err != nil {
		return 0, banger.Errorf(banger.KindUnavailable, "the clock of %s could not be set: %w", rec.Name, err).
			WithNext("banger vm show %s", rec.Name)
	}
	m.Log.InfoContext(ctx, "a guest's clock was set", "vm", rec.Name, "drift", drift)
	e := eventOf(ctx, banger.EventClockSet, rec)
	e.Detail = map[string]string{"drift_ms": strconv.FormatInt(drift.Milliseconds(), 10)}
	m.Events.Emit(ctx, e)
	return drift, nil
}

// clockDrift is how far a guest's clock is ahead of the host's, in milliseconds;
// nil if the guest does not say so soon, or cannot.
func (m *Manager) clockDrift(ctx context.Context, vm banger.VM) *int64 {
	m.mu.Lock()
	ready := m.seen[vm.ID].Ready
	m.mu.Unlock()
	if vm.State != banger.StateRunning || !ready {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, driftTimeout)
	defer cancel()
	drift, err := m.monitorOf(vm.ID).Clock(ctx)
	if err != nil {
		return nil
	}
	ms := drift.Milliseconds()
	return &ms
}
