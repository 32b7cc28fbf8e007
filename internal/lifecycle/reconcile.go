package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/monitor"
	"banger.dev/banger/internal/replace"
)

// recoverTimeout is each VM's own deadline when the daemon starts: one that
// does not answer holds up nobody else.
const recoverTimeout = 5 * time.Second

// Reconcile brings rows and host together after whatever happened while no
// daemon ran: a live VM is kept and watched, any other demoted to stopped and
// torn down, a cut-off create undone, a cut-off delete finished, an ended
// ephemeral VM deleted. Errors of
// single VMs are joined; none stops the others.
func (m *Manager) Reconcile(ctx context.Context) error {
	all, err := m.Rows.List(ctx, m.Owner)
	if err != nil {
		return err
	}
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, rec := range all {
		wg.Go(func() {
			if err := m.recover(ctx, rec); err != nil {
				errs[i] = fmt.Errorf("VM %s: %w", rec.Name, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(append(errs, m.sweep(all), m.sweepKeys(ctx))...)
}

func (m *Manager) recover(ctx context.Context, rec banger.Record) error {
	ctx, cancel := context.WithTimeout(ctx, recoverTimeout)
	defer cancel()
	unlock, err := m.locks.lock(ctx, rec.ID)
	if err != nil {
		return err
	}
	defer unlock()
	if rec.Deleting {
		return m.discard(ctx, rec)
	}
	if rec.Damaged != "" {
		return nil // nothing is done by what cannot be read; list says so, and delete works
	}
	if rec.Creating {
		return m.discard(ctx, rec)
	}
	held := m.hold(ctx, rec)
	if held == nil {
		m.keep(ctx, rec)
	}
	if m.alive(rec.ID) {
		err := m.adopt(ctx, rec)
		// A monitor that does not answer may be one that is about to end.
		if err == nil || m.awaitFree(ctx, rec.ID, recoverTimeout) != nil {
			m.watch(rec) // also without an answer: one may yet come, and the end will
			return errors.Join(held, err)
		}
	}
	m.settleLocked(ctx, &rec, monitor.ReasonMonitorDied)
	if rec.Spec.Ephemeral {
		return m.discard(ctx, rec)
	}
	return errors.Join(held, m.sweepHalfMade(rec.ID))
}

// halfMade says whether a name in a VM's directory is a temporary one.
func halfMade(name string) bool {
	return strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".tmp") || strings.HasSuffix(name, ".new")
}

// sweepHalfMade removes the temporary files of writes that were cut off: those
// of a VM that is not alive are nobody's while its lock is held.
func (m *Manager) sweepHalfMade(id string) error {
	dir := m.files(id).Dir
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	var errs []error
	for _, e := range entries {
		if halfMade(e.Name()) {
			errs = append(errs, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(append(errs, err)...)
}

// adopt takes over a VM that outlived the daemon before this one.
func (m *Manager) adopt(ctx context.Context, rec banger.Record) error {
	status, err := m.monitorOf(rec.ID).Status(ctx)
	if err != nil {
		return err // it runs; list says that its monitor does not answer
	}
	if err := m.recordAlive(rec, status); err != nil {
		return err
	}
	// A daemon may have died between the row and the monitor. A refusal breaks
	// nothing else: the ports are tried again at the next start, and list says so.
	if err := m.syncPorts(ctx, rec); err != nil {
		m.notePortsRefused(ctx, rec, err)
	}
	if status.Ready {
		m.tellStartedIfUntold(ctx, rec, status)
	}
	return replace.Sweep(m.files(rec.ID).Handles()) // of daemons that were killed
}

// sweep removes the socket directories of VMs that are no more. Directories
// with a VM's disks are never removed for want of a row: a lost database must
// not cost the disks too.
func (m *Manager) sweep(known []banger.Record) error {
	ids := map[string]bool{}
	for _, rec := range known {
		ids[rec.ID] = true
	}
	entries, err := os.ReadDir(m.Layout.RunVMs())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	var errs []error
	for _, e := range entries {
		if banger.IsID(e.Name()) && !ids[e.Name()] && !m.alive(e.Name()) {
			errs = append(errs, os.RemoveAll(m.files(e.Name()).Run))
		}
	}
	return errors.Join(append(errs, err)...)
}
