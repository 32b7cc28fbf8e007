package lifecycle

import (
	"context"
	"fmt"
	"strings"

	"banger.dev/banger"
)

// minPrefix is the shortest part of an id that names a VM.
const minPrefix = 4

// lookup finds a VM by exact name, exact id, or unique prefix of its id, in
// this order: a name may look like an id.
func (m *Manager) lookup(ctx context.Context, ref string) (banger.Record, error) {
	found, err := m.Rows.Find(ctx, m.Owner, ref)
	if err != nil {
		return banger.Record{}, err
	}
	var matches []banger.Record
	for _, r := range found {
		if r.Name == ref {
			return r, nil
		}
		if len(ref) >= minPrefix && strings.HasPrefix(r.ID, ref) {
			matches = append(matches, r)
		}
	}
	switch len(matches) {
	case 0:
		return banger.Record{}, banger.Errorf(banger.KindNotFound, "no VM %q", ref).WithNext("banger vm list")
	case 1:
		return matches[0], nil // ids are of one length, so an exact one is here too
	default:
		return banger.Record{}, banger.Errorf(banger.KindConflict, "%q begins the ids of %d VMs: %s", ref, len(matches), describe(matches)).
			WithNext("give more of the id, or the name")
	}
}

// get reads the row with exactly this id.
func (m *Manager) get(ctx context.Context, id string) (banger.Record, error) {
	return m.Rows.Get(ctx, m.Owner, id)
}

// refresh reads a row again. It returns false when there is none any more; a
// row that cannot be read stays as it was.
func (m *Manager) refresh(ctx context.Context, rec *banger.Record) bool {
	now, err := m.get(ctx, rec.ID)
	if err == nil {
		*rec = now
	}
	return banger.KindOf(err) != banger.KindNotFound
}

func describe(list []banger.Record) string {
	names := make([]string, len(list))
	for i, r := range list {
		names[i] = fmt.Sprintf("%s (%s)", r.Name, r.ID)
	}
	return strings.Join(names, ", ")
}

// locked finds a VM, takes its lock and reads it again: what another verb did
// meanwhile counts. It does not wait for a create, which may take minutes.
func (m *Manager) locked(ctx context.Context, ref string) (banger.Record, func(), error) {
	first, err := m.lookup(ctx, ref)
	if err != nil {
		return first, nil, err
	}
	if m.beingCreated(first) {
		return first, nil, errCreating(first)
	}
	unlock, err := m.acquire(ctx, first)
	if err != nil {
		return first, nil, err
	}
	rec, err := m.get(ctx, first.ID)
	if err != nil {
		unlock()
		if banger.KindOf(err) == banger.KindNotFound {
			err = banger.Errorf(banger.KindNotFound, "VM %q was deleted meanwhile", first.Name).WithNext("banger vm list")
		}
		return rec, nil, err
	}
	if rec.Deleting {
		unlock()
		return rec, nil, errDeleting(rec)
	}
	return rec, unlock, nil
}

// acquire waits for a VM's lock until ctx ends.
func (m *Manager) acquire(ctx context.Context, rec banger.Record) (unlock func(), err error) {
	unlock, err = m.locks.lock(ctx, rec.ID)
	if err != nil {
		return nil, &banger.Error{Kind: banger.KindCancelled, Message: fmt.Sprintf("gave up waiting for another command on VM %s", rec.Name), Err: err}
	}
	return unlock, nil
}

func (m *Manager) beingCreated(rec banger.Record) bool {
	return rec.Creating && m.isUnderway(m.creating, rec.ID)
}

func errCreating(rec banger.Record) error {
	return banger.Errorf(banger.KindConflict, "VM %s is being created", rec.Name).
		WithNext("banger vm list, or banger vm delete %s to give it up", rec.Name)
}
