package space

import (
	"context"

	"banger.dev/banger"
)

// Prune removes what no VM of any home needs: what was superseded, downloads
// that something has been made of, half-made files; with all also what the next
// VM would be made of, which is then fetched again. With a kind it is of that
// alone. With dry nothing is removed.
func (h Home) Prune(ctx context.Context, kind string, all, dry bool) (banger.Pruned, error) {
	items, err := h.measure(ctx)
	pruned := banger.Pruned{Entries: []banger.PrunedEntry{}}
	for _, i := range items {
		if kind != "" && i.Kind != kind || !i.needless() || i.current && !all || i.Bytes == 0 {
			continue
		}
		e := banger.PrunedEntry{DiskEntry: i.DiskEntry}
		if !dry && ctx.Err() == nil {
			e.Removed, e.Error = outcome(i.remove(ctx))
		}
		if e.Removed {
			pruned.Freed += i.Bytes
		}
		pruned.Entries = append(pruned.Entries, e)
	}
	return pruned, err
}

func outcome(err error) (removed bool, why string) {
	if err != nil {
		return false, err.Error()
	}
	return true, ""
}
