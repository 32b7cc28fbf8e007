package lifecycle

import (
	"context"
	"errors"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/monitor"
	"banger.dev/banger/internal/steps"
)

// pauseTimeout is how long a VMM may take to stop its vCPUs, which waits for what
// it writes to its disks, or to let them go.
const pauseTimeout = 30 * time.Second

// Pause stops the vCPUs of a running VM; what is in its memory stays there.
func (m *Manager) Pause(ctx context.Context, ref string) (banger.VM, Outcome, error) {
	return m.turn(ctx, ref, verbPause, "pause.vmm", func(ctx context.Context, rec banger.Record, before monitor.Status) error {
		if !before.Ready {
			return banger.Errorf(banger.KindConflict, "VM %s is booting", rec.Name).WithNext("banger vm wait --for ready %s", rec.Name)
		}
		if err := m.monitorOf(rec.ID).Pause(ctx); err != nil {
			return err
		}
		_, err := m.awaitSeen(ctx, rec.ID, func(s monitor.Status) bool { return s.Paused })
		return err
	})
}

// Resume lets the vCPUs of a paused VM go on, whoever has paused it, and sets
// the guest's clock, which has stood still.
func (m *Manager) Resume(ctx context.Context, ref string) (banger.VM, Outcome, error) {
	return m.turn(ctx, ref, verbResume, "resume.vmm", func(ctx context.Context, rec banger.Record, before monitor.Status) error {
		if err := m.monitorOf(rec.ID).Resume(ctx); err != nil {
			return err
		}
		after, err := m.awaitSeen(ctx, rec.ID, func(s monitor.Status) bool { return !s.Paused || s.Pauses > before.Pauses })
		if err == nil && after.Paused {
			return banger.Errorf(banger.KindUnavailable, "VM %s was resumed, and its VMM has paused it again: %s", rec.Name, after.Reason).
				WithNext("banger vm resume %s when that is put right", rec.Name)
		}
		if err != nil {
			return err
		}
		if _, err := m.setClock(ctx, rec); err != nil {
			m.Log.WarnContext(ctx, "a guest's clock could not be set", "vm", rec.Name, "err", err)
		}
		return nil
	})
}

// turn does pause or resume, which is one step, under the VM's lock.
func (m *Manager) turn(ctx context.Context, ref string, v verb, step string, do func(context.Context, banger.Record, monitor.Status) error) (banger.VM, Outcome, error) {
	rec, unlock, err := m.locked(ctx, ref)
	if err != nil {
		return banger.VM{}, Outcome{}, err
	}
	defer unlock()
	if _, remains := m.settle(ctx, &rec); !remains {
		return banger.VM{}, Outcome{}, errEnded(ref)
	}
	if got, err := m.judge(v, rec); got != act {
		return m.observe(rec), Outcome{}, err
	}
	asking, cancel := context.WithTimeout(ctx, pauseTimeout)
	defer cancel()
	m.mu.Lock()
	before := m.seen[rec.ID]
	m.mu.Unlock()
	err = m.Steps.Run(asking, rec.ID, steps.Step{Name: step, Do: func(ctx context.Context) error { return do(ctx, rec, before) }})
	if err = plainStep(err); err != nil {
		if banger.KindOf(err) == banger.KindInternal {
			err = banger.Errorf(banger.KindUnavailable, "%s of VM %s: %w", v, rec.Name, err).WithNext("banger vm show %s", rec.Name)
		}
		return banger.VM{}, Outcome{}, err
	}
	return m.observe(rec), Outcome{Changed: true}, nil
}

// awaitSeen waits until the watcher of a live VM has heard of what a verb did, or
// the VM has ended.
func (m *Manager) awaitSeen(ctx context.Context, id string, heard func(monitor.Status) bool) (monitor.Status, error) {
	tick := time.NewTicker(freePoll)
	defer tick.Stop()
	for {
		m.mu.Lock()
		s := m.seen[id]
		m.mu.Unlock()
		switch {
		case heard(s):
			return s, nil
		case !m.alive(id):
			return s, errors.New("it has ended meanwhile")
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return s, ctx.Err()
		}
	}
}
