package lifecycle

import (
	"context"
	"strconv"

	"banger.dev/banger"
	"banger.dev/banger/internal/monitor"
	"banger.dev/banger/internal/request"
)

// eventOf is an event about a VM.
func eventOf(ctx context.Context, t banger.EventType, rec banger.Record) banger.Event {
	return banger.Event{Type: t, VM: rec.Name, VMID: rec.ID, Request: request.ID(ctx)}
}

// tellStarted tells that a guest is ready. The caller holds the VM's lock.
func (m *Manager) tellStarted(ctx context.Context, rec banger.Record) {
	m.mu.Lock()
	status := m.seen[rec.ID]
	m.mu.Unlock()
	m.Log.InfoContext(ctx, "VM started", "vm", rec.Name, "id", rec.ID)
	m.Events.Emit(ctx, eventOf(ctx, banger.EventVMStarted, rec))
	m.booted(status)
}

func (m *Manager) booted(status monitor.Status) {
	if m.Booted != nil && len(status.Phases) > 0 {
		m.Booted(status.Phases)
	}
}

// tellStartedIfUntold makes up for a daemon that died between a guest's being
// ready and telling so.
func (m *Manager) tellStartedIfUntold(ctx context.Context, rec banger.Record, status monitor.Status) {
	last, err := m.Events.Last(ctx, rec.ID)
	if err != nil {
		m.Log.ErrorContext(ctx, "read a VM's last event", "vm", rec.Name, "err", err)
		return
	}
	if last.Time.Before(status.Started) || last.Type == banger.EventVMCreated || last.Type == banger.EventVMStopped {
		m.Events.Emit(ctx, eventOf(ctx, banger.EventVMStarted, rec))
	}
}

// noteStatus keeps what a monitor says and tells what has changed by it.
func (m *Manager) noteStatus(ctx context.Context, id string, s monitor.Status) {
	m.mu.Lock()
	before, known := m.seen[id]
	// Of a run that a verb has replaced, or of before what a verb was told.
	stale := known && (before.MonitorPID != s.MonitorPID || s.Before(before))
	if !stale {
		m.keepSeen(id, s)
	}
	m.mu.Unlock()
	if stale {
		return
	}
	ready, turned := s.Ready && !before.Ready, s.Paused != before.Paused
	if !known || (!ready && !turned) {
		return
	}
	rec, err := m.get(ctx, id)
	if err != nil {
		return // it is being deleted
	}
	if ready {
		e := eventOf(ctx, banger.EventVMStarted, rec)
		if s.Boots > 1 {
			e.Type, e.Detail = banger.EventVMRebooted, map[string]string{"boots": strconv.Itoa(s.Boots)}
		}
		m.Events.Emit(ctx, e)
		m.booted(s)
	}
	if turned {
		e := eventOf(ctx, banger.EventVMResumed, rec)
		if s.Paused {
			e.Type, e.Reason = banger.EventVMPaused, s.Reason
		}
		m.Events.Emit(ctx, e)
	}
}
