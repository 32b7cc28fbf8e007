package servertest

import (
	"context"

	"banger.dev/banger"
)

// Space is a home that takes this.
type Space []banger.DiskEntry

// Usage is server.Space's.
func (s Space) Usage(context.Context) (banger.DiskUsage, error) {
	u := banger.DiskUsage{Entries: append([]banger.DiskEntry{}, s...)}
	for _, e := range s {
		u.Total += e.Bytes
		u.Reclaimable += e.Reclaimable
	}
	return u, nil
}

// Prune is server.Space's: with all it removes everything, else nothing.
func (s Space) Prune(_ context.Context, _ string, all, dry bool) (banger.Pruned, error) {
	p := banger.Pruned{Entries: []banger.PrunedEntry{}}
	for _, e := range s {
		if all {
			p.Entries = append(p.Entries, banger.PrunedEntry{DiskEntry: e, Removed: !dry, Error: "in use"})
		}
	}
	return p, nil
}
