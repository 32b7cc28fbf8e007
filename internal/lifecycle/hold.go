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

// release is for a VM whose directory is gone.
func (m *Manager) release(id string) error {
	if m.Cache == nil {
		return nil
	}
	return m.Cache.Release(m.files(id).Dir)
}
