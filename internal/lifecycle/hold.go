package lifecycle

import (
	"context"

	"banger.dev/banger"
)

// Cache knows which VMs need what of it. Other homes may share the cache, so
// that the rows alone do not say what can be removed.
type Cache interface {
	// Hold notes that the VM with this directory needs its image, its kernel and
	// the template of its work disk, as long as the directory is there. It is
	// KindNotFound if one of them is gone.
	Hold(ctx context.Context, rec banger.Record, dir string) error
	// Keep notes that it needs no image and kernel but its own any more, those that it had before.
	Keep(rec banger.Record, dir string) error
	// Release notes that it needs nothing any more.
	Release(dir string) error
}

// hold is done before a VM's disks are made, at each start, and for every VM
// when the daemon starts: the account need not be there, nor be right.
func (m *Manager) hold(ctx context.Context, rec banger.Record) error {
	dir := m.files(rec.ID).Dir
	if m.Cache == nil || !exists(dir) {
		return nil
	}
	return m.Cache.Hold(ctx, rec, dir)
}

// keep is for a VM whose row names its image and its kernel, after others may
// have been held.
func (m *Manager) keep(ctx context.Context, rec banger.Record) {
	if m.Cache == nil {
		return
	}
	if err := m.Cache.Keep(rec, m.files(rec.ID).Dir); err != nil {
		m.Log.WarnContext(ctx, "an image or a kernel is held that a VM does not need", "vm", rec.Name, "err", err)
	}
}

// release is for a VM whose directory is gone.
func (m *Manager) release(id string) error {
	if m.Cache == nil {
		return nil
	}
	return m.Cache.Release(m.files(id).Dir)
}
