package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"os"

	"banger.dev/banger"
	"banger.dev/banger/internal/steps"
)

// Delete removes a VM and all that is its own. It works from every state; a
// running one, or one that is being started, needs force. A VM still being
// created is cancelled first. Once files have gone the row says so: whoever
// comes upon a delete that was cut off finishes it.
func (m *Manager) Delete(ctx context.Context, ref string, force bool) (banger.VM, Outcome, error) {
	rec, err := m.lookup(ctx, ref)
	if err != nil {
		return banger.VM{}, Outcome{}, err
	}
	if err := m.mayDelete(rec, force); err != nil {
		return banger.VM{}, Outcome{}, err
	}
	last := m.observe(rec)
	unlock, err := m.seize(ctx, rec, force)
	if err != nil {
		return banger.VM{}, Outcome{}, err
	}
	defer unlock()
	if m.alive(rec.ID) && !force {
		return banger.VM{}, Outcome{}, banger.Errorf(banger.KindConflict, "VM %s was started meanwhile", rec.Name).
			WithNext("banger vm delete --force %s", rec.Name)
	}
	if err := m.discard(ctx, rec); err != nil {
		return banger.VM{}, Outcome{}, banger.Errorf(banger.KindOf(err), "delete VM %s: %w", rec.Name, err).WithNext("banger vm delete %s", rec.Name)
	}
	return last, Outcome{Changed: true}, nil
}

func (m *Manager) mayDelete(rec banger.Record, force bool) error {
	v := verbDelete
	if force {
		v = verbForcedDelete
	}
	if _, err := m.judge(v, rec); err != nil {
		return err
	}
	if !force && m.isUnderway(m.starting, rec.ID) {
		return banger.Errorf(banger.KindConflict, "VM %s is being started", rec.Name).
			WithNext("banger vm stop %s, or banger vm delete --force %s", rec.Name, rec.Name)
	}
	return nil
}

// remove deletes a VM whatever it is doing.
func (m *Manager) remove(ctx context.Context, rec banger.Record) error {
	unlock, err := m.seize(ctx, rec, true)
	if err != nil {
		return err
	}
	defer unlock()
	return m.discard(ctx, rec)
}

// errDeleted is why a verb is cancelled whose VM is being deleted.
var errDeleted = errors.New("the VM was deleted")

// seize takes the lock of a VM that is to be deleted, ending the create that
// holds it and, with force, whatever else does.
func (m *Manager) seize(ctx context.Context, rec banger.Record, force bool) (unlock func(), err error) {
	m.cancel(m.creating, rec.ID, errDeleted)
	if force {
		m.cancel(m.starting, rec.ID, errDeleted)
	}
	if force && m.alive(rec.ID) {
		m.interrupt(ctx, rec)
	}
	return m.acquire(ctx, rec)
}

// discard removes a VM: its kernel objects, its files, then its row. Until the
// row is marked the VM is whole; from then on nothing takes the delete back, and
// the row is there to go on from. It is idempotent. The caller holds the VM's
// lock.
func (m *Manager) discard(ctx context.Context, rec banger.Record) error {
	if !banger.IsID(rec.ID) { // without one, the directory of "it" would be that of all VMs
		return fmt.Errorf("a VM is to be removed that has no id but %q", rec.ID)
	}
	ctx = context.WithoutCancel(ctx) // what is begun is finished
	m.setDeleting(rec.ID, true)
	defer m.setDeleting(rec.ID, false)
	if err := m.teardown(ctx, rec.ID); err != nil {
		return err
	}
	return m.Steps.Run(ctx, rec.ID,
		steps.Step{Name: "delete.mark", Do: func(ctx context.Context) error { return m.Rows.MarkDeleting(ctx, rec.ID) }},
		steps.Step{Name: "delete.files", Do: func(context.Context) error {
			return errors.Join(m.unlinkKeys(rec), os.RemoveAll(m.files(rec.ID).Dir), m.release(rec.ID))
		}},
		steps.Step{Name: "delete.row", Do: func(ctx context.Context) error {
			return m.Rows.Delete(ctx, rec.ID, func(last banger.Record) banger.Event {
				if last.Creating { // nobody was told that it was made
					return banger.Event{}
				}
				return eventOf(ctx, banger.EventVMDeleted, last)
			})
		}},
	)
}

func (m *Manager) setDeleting(id string, is bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if is {
		m.deleting[id] = true
	} else {
		delete(m.deleting, id)
	}
	m.announce()
}

func (m *Manager) isDeleting(id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.deleting[id]
}

// unfinished is the error of a verb on a VM whose delete was cut off; nil on any
// other, also on one that somebody has in hand.
func (m *Manager) unfinished(ctx context.Context, rec banger.Record) error {
	if !rec.Deleting {
		return nil
	}
	unlock, ok := m.locks.tryLock(rec.ID)
	if !ok {
		return nil
	}
	defer unlock()
	if !m.refresh(ctx, &rec) {
		return nil
	}
	return errDeleting(rec)
}

func errDeleting(rec banger.Record) error {
	return banger.Errorf(banger.KindConflict, "VM %s is being deleted, and what is left of it could not be removed yet", rec.Name).
		WithNext("banger vm delete %s", rec.Name)
}
