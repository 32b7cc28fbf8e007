package lifecycle

import "banger.dev/banger/internal/monitor"

// What a monitor says comes on two ways: to the watcher, and to the verb that has
// asked. A verb's answer may be the older one by the time it is kept.

// noteRun keeps what the monitor of a run has said that is new to us.
func (m *Manager) noteRun(id string, s monitor.Status) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if before := m.seen[id]; before.MonitorPID != s.MonitorPID || !s.Before(before) {
		m.seen[id] = s
	}
}

// noteReady keeps that a guest got ready, if its run is still the present one.
func (m *Manager) noteReady(id string, s monitor.Status) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if before := m.seen[id]; before.MonitorPID == s.MonitorPID && !s.Before(before) {
		m.seen[id] = s
	}
}
