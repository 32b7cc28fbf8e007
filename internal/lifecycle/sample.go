package lifecycle

import (
	"context"

	"banger.dev/banger"
	"banger.dev/banger/internal/monitor"
)

// Sample is a VM as a scrape of metrics sees it.
type Sample struct {
	VM     banger.VM
	Status *monitor.Status // the last that its monitor told; nil if the VM is not alive or has told nothing
	Disks  []banger.DiskStats
}

// Samples is all VMs with what is known of them without asking anybody: no VM
// that hangs can hold it up.
func (m *Manager) Samples(ctx context.Context) ([]Sample, error) {
	all, err := m.Rows.List(ctx, m.Owner)
	if err != nil {
		return nil, err
	}
	samples := make([]Sample, len(all))
	for i, rec := range all {
		samples[i].VM, samples[i].Disks = m.observe(rec), m.diskStats(rec)
		m.mu.Lock()
		status, known := m.seen[rec.ID]
		m.mu.Unlock()
		if state := samples[i].VM.State; known && (state == banger.StateRunning || state == banger.StatePaused) {
			samples[i].Status = &status
		}
	}
	return samples, nil
}
