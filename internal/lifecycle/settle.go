package lifecycle

import (
	"context"
	"fmt"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/monitor"
	"banger.dev/banger/internal/steps"
)

// watchRetry is how long a live VM whose monitor does not answer, or has closed
// its socket, is left alone before it is asked again.
const watchRetry = time.Second

// lockPoll is how long the lock of a VM that has ended is waited for, before it is
// looked whether the VM is alive again.
const lockPoll = 100 * time.Millisecond

// watch follows a live VM until it has ended, then settles it. There is one
// watcher for each VM. The caller holds the VM's lock.
func (m *Manager) watch(rec banger.Record) {
	memory := m.memoryOf(rec)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.watched[rec.ID] || m.life.Err() != nil {
		return
	}
	m.watched[rec.ID] = true
	m.memory[rec.ID] = memory
	m.wg.Go(func() { m.follow(rec.ID) })
}

func (m *Manager) follow(id string) {
	for m.life.Err() == nil {
		err := m.monitorOf(id).Watch(m.life, func(s monitor.Status) { m.noteStatus(m.life, id, s) })
		if err != nil && m.alive(id) {
			select {
			case <-time.After(watchRetry):
			case <-m.life.Done():
			}
			continue
		}
		// A monitor closes its socket first and frees the lock last. Who has it then
		// may be the monitor of the next run already, which is to be followed.
		if m.awaitFree(m.life, id, watchRetry) == nil && m.settleEnded(id) {
			return
		}
	}
}

// settleEnded settles a VM that has ended. It returns false when a verb has
// started it again meanwhile, which the watcher then goes on to follow.
func (m *Manager) settleEnded(id string) (done bool) {
	unlock := m.lockEnded(id)
	if unlock == nil {
		return m.life.Err() != nil
	}
	defer unlock()
	if m.alive(id) {
		return false
	}
	if rec, err := m.get(m.life, id); err == nil {
		m.settle(m.life, &rec)
	}
	// Under the VM's lock: a start after this finds no watcher and makes one.
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.watched, id)
	m.forget(id)
	return true
}

// lockEnded takes the lock of a VM that has ended. It returns nil when the VM is
// alive again or the daemon ends: the verb that has the lock then may itself be
// waiting for what the VM's watcher hears, as a pause does.
func (m *Manager) lockEnded(id string) (unlock func()) {
	for m.life.Err() == nil && !m.alive(id) {
		waiting, cancel := context.WithTimeout(m.life, lockPoll)
		unlock, err := m.locks.lock(waiting, id)
		cancel()
		if err == nil {
			return unlock
		}
	}
	return nil
}

// settleIfFree settles a VM that has ended unseen, unless a verb has it in
// hand. It returns false when the VM is no more.
func (m *Manager) settleIfFree(ctx context.Context, rec *banger.Record) bool {
	over := m.isOver(*rec)
	if !over && (rec.Creating || !exists(m.files(rec.ID).Handles()) || m.alive(rec.ID)) {
		return true
	}
	unlock, ok := m.locks.tryLock(rec.ID)
	if !ok {
		return true
	}
	defer unlock()
	if !m.refresh(ctx, rec) {
		return false
	}
	_, remains := m.settle(ctx, rec)
	return remains
}

// settle settles a VM and deletes it if it is over; then remains is false. vm is
// what it was before that. The caller holds the VM's lock.
func (m *Manager) settle(ctx context.Context, rec *banger.Record) (vm banger.VM, remains bool) {
	if !rec.Deleting {
		m.settleLocked(ctx, rec, monitor.ReasonMonitorDied)
	}
	vm = m.observe(*rec)
	if !m.isOver(*rec) {
		return vm, true
	}
	if err := m.discard(ctx, *rec); err != nil {
		m.Log.ErrorContext(ctx, "delete what is left of a VM", "vm", rec.Name, "err", err)
		return vm, true
	}
	return vm, false
}

// isOver says whether what is left of a VM is to be deleted, by whoever finds it:
// its delete was cut off, or it is ephemeral and has had its run. Neither is ever
// taken back, so that an older reading of the row is as good.
func (m *Manager) isOver(rec banger.Record) bool {
	return rec.Deleting || rec.Spec.Ephemeral && rec.LastExit != nil && !m.alive(rec.ID)
}

// settleLocked records how a VM that is not alive any more ended and removes
// what its run left. It does nothing to one that was settled, and returns
// whether there was something to do. lost is the reason of an end that nobody
// was left to write down. The caller holds the VM's lock.
//
// handles.json is there from before a run's start until the run is settled, and
// exit.json of an earlier run is removed before it is written: so handles.json
// with an exit.json that the row knows means that only the teardown is missing,
// and without one that the monitor did not live to write it.
func (m *Manager) settleLocked(ctx context.Context, rec *banger.Record, lost string) (ended bool) {
	if m.alive(rec.ID) {
		return false
	}
	if !exists(m.files(rec.ID).Handles()) && !m.exitIsNews(*rec) {
		return false
	}
	ctx = context.WithoutCancel(ctx) // what is begun is finished
	err := m.Steps.Run(ctx, rec.ID, steps.Step{Name: "end.row", Do: func(ctx context.Context) error {
		return m.recordExit(ctx, rec, lost)
	}})
	if err != nil {
		m.Log.ErrorContext(ctx, "record how a VM ended", "vm", rec.Name, "err", err)
		return false
	}
	if err := m.teardown(ctx, rec.ID); err != nil {
		m.Log.ErrorContext(ctx, "teardown of an ended VM", "vm", rec.Name, "err", err)
	}
	return true
}

// recordExit writes to the row how the VM's run ended, and tells of it unless
// the row knew.
func (m *Manager) recordExit(ctx context.Context, rec *banger.Record, lost string) error {
	var known time.Time
	updated, err := m.Rows.Update(ctx, rec.ID, func(r *banger.Record) error {
		if r.LastExit != nil {
			known = r.LastExit.Time
		}
		m.applyExit(r, lost)
		return nil
	}, func(r banger.Record) banger.Event {
		e := eventOf(ctx, banger.EventVMStopped, r)
		if r.LastExit == nil || r.LastExit.Time.Equal(known) {
			return banger.Event{} // only the teardown was missing
		}
		e.Reason = r.LastExit.Reason
		if r.LastError != "" {
			e.Detail = map[string]string{"error": r.LastError}
		}
		return e
	})
	if err != nil {
		return err
	}
	*rec = updated
	return nil
}

// exitIsNews says whether exit.json tells of a run that the row does not know.
func (m *Manager) exitIsNews(rec banger.Record) bool {
	exit, ok := m.lastExit(rec.ID)
	return ok && (rec.LastExit == nil || !rec.LastExit.Time.Equal(exit.Time))
}

// applyExit writes to a row how its VM's run ended.
func (m *Manager) applyExit(r *banger.Record, lost string) {
	exit, ok := m.lastExit(r.ID)
	if ok && !m.exitIsNews(*r) {
		return
	}
	if !ok {
		exit = monitor.Exit{
			LastExit: banger.LastExit{Time: time.Now().UTC(), Code: -1, Reason: lost},
			Detail:   m.describeLoss(r.ID),
		}
	}
	r.LastExit = &exit.LastExit
	asked := r.Intent == banger.IntentStopped
	switch {
	case exit.Reason == monitor.ReasonPoweroff:
		r.Intent, r.LastError = banger.IntentStopped, ""
	case asked && (exit.Reason == monitor.ReasonKilled || exit.Reason == monitor.ReasonMonitorDied):
		r.LastError = ""
	default:
		r.LastError = fmt.Sprintf("it ended at %s: %s", exit.Time.Local().Format(time.DateTime), describeExit(exit))
	}
}

// describeLoss says why nobody was left to write exit.json.
func (m *Manager) describeLoss(id string) string {
	h := m.readHandles(id)
	if h == nil {
		return "its monitor was killed"
	}
	if boot, err := m.Processes.BootID(); err == nil && h.BootID != boot {
		return "the host was restarted"
	}
	if h.MonitorPID == 0 {
		return "it was being started when the daemon was killed"
	}
	return fmt.Sprintf("its monitor (pid %d) was killed, and the VMM (pid %d) with it", h.MonitorPID, h.PID)
}
