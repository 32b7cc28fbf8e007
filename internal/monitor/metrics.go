package monitor

import (
	"encoding/json"
	"os"
	"time"

	"banger.dev/banger"
)

// Metrics is the content of metrics.json: how the last run of a VM went, as far
// as its monitor knows. It is written when the guest is ready and at the end.
type Metrics struct {
	Started  time.Time          `json:"started"`  // the VMM, at the last boot
	Boots    int                `json:"boots"`    // 1, and one more for each reboot of the guest
	Phases   []banger.BootPhase `json:"phases"`   // of the last boot, in order; "ready" if it got so far
	Sessions int64              `json:"sessions"` // of the guest's agent with the monitor
	Streams  int64              `json:"streams"`  // opened to the guest by clients
	Ended    *time.Time         `json:"ended"`    // null while it runs, or if the monitor was killed
}

// writeMetrics leaves metrics.json. It is not worth failing for.
func (m *monitor) writeMetrics(ended *time.Time) {
	m.metricsMu.Lock()
	defer m.metricsMu.Unlock()
	s := m.status()
	err := writeJSON(m.order.Files.Metrics(), Metrics{
		Started: s.Started, Boots: s.Boots, Phases: s.Phases,
		Sessions: m.sessions.Load(), Streams: m.streams.Load(), Ended: ended,
	})
	if err != nil {
		m.log.Warn("metrics.json cannot be written", "err", err)
	}
}

// ReadMetrics reads how the last run of a VM went.
func ReadMetrics(path string) (Metrics, error) {
	var v Metrics
	b, err := os.ReadFile(path)
	if err != nil {
		return v, err
	}
	return v, json.Unmarshal(b, &v)
}
