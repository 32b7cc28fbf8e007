package lifecycle

import "context"

// Alive is how many of the owner's VMs are alive.
func (m *Manager) Alive(ctx context.Context) (int, error) {
	all, err := m.Rows.List(ctx, m.Owner)
	n := 0
	for _, rec := range all {
		if m.alive(rec.ID) {
			n++
		}
	}
	return n, err
}
