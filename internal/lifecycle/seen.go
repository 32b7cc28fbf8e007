package lifecycle

import "banger.dev/banger/internal/monitor"

// What a monitor says comes on two ways: to the watcher, and to the verb that has
// asked. A verb's answer may be the older one by the time it is kept.

// noteRun keeps what the monitor of a run has said that is new to us.
func (m *Manager) noteRun(id string, s monitor.Status) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if before := m.seen[id]; before.MonitorPID != s.MonitorPID || !s.Before(before) {
		m.keepSeen(id, s)
	}
}

// noteReady keeps that a guest got ready, if its run is still the present one.
func (m *Manager) noteReady(id string, s monitor.Status) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if before := m.seen[id]; before.MonitorPID == s.MonitorPID && !s.Before(before) {
		m.keepSeen(id, s)
	}
}

// keepSeen keeps what a monitor has said. m.mu is held.
func (m *Manager) keepSeen(id string, s monitor.Status) {
	before, known := m.seen[id]
	m.seen[id] = s
	if !known || before.MonitorPID != s.MonitorPID || before.Ready != s.Ready || before.Paused != s.Paused {
		m.announce()
	}
}

// forget is for a VM whose run is over. m.mu is held.
func (m *Manager) forget(id string) {
	delete(m.seen, id)
	m.announce()
}

// announce tells who waits that some VM may be something else now. m.mu is held.
func (m *Manager) announce() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// change is closed when some VM may have become something else. Ask for it before
// looking.
func (m *Manager) change() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.changed
}

// runOf tells the runs of a VM apart: the pid of its monitor, 0 if none is known.
func (m *Manager) runOf(id string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.seen[id].MonitorPID
}
