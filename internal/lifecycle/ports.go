package lifecycle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/monitor"
	"banger.dev/banger/internal/steps"
)

// Ports is what the host says of ports; see package publish.
type Ports interface {
	// Probe says why a port could not be listened on now, and who has it.
	Probe(p banger.Port) error
	// Free is a port of p's address and protocol that nobody has.
	Free(p banger.Port) (int, error)
}

// portsTimeout is how long a monitor may take to open and close listeners.
const portsTimeout = 10 * time.Second

// AddPorts publishes ports of a VM, at once if it runs and at each start from
// now on: all of them or none. Those that are published already stay as they
// are; a HostPort of 0 is a free one.
func (m *Manager) AddPorts(ctx context.Context, ref string, add []banger.Port) (banger.VM, Outcome, error) {
	return m.changePorts(ctx, ref, func(rec banger.Record) ([]banger.Port, error) {
		fresh := slices.DeleteFunc(slices.Clone(add), func(p banger.Port) bool { return slices.Contains(rec.Spec.Publish, p) })
		want, err := m.choosePorts(slices.Concat(rec.Spec.Publish, fresh))
		if err != nil {
			return nil, err
		}
		if err := banger.ValidatePorts(want); err != nil {
			return nil, takenHere(err).WithNext("banger vm port list %s", rec.Name)
		}
		return want, m.checkPorts(ctx, rec.ID, want[len(rec.Spec.Publish):])
	})
}

// takenHere is ValidatePorts's error about ports of which each can be: it is the
// VM's other ports that forbid it.
func takenHere(err error) *banger.Error {
	return banger.Errorf(banger.KindConflict, "%w", err)
}

// RemovePorts ends the publishing of the ports that gone names, see
// banger.ParsePublished; their connections are cut.
func (m *Manager) RemovePorts(ctx context.Context, ref string, gone []banger.Port) (banger.VM, Outcome, error) {
	return m.changePorts(ctx, ref, func(rec banger.Record) ([]banger.Port, error) {
		for _, q := range gone {
			if !slices.ContainsFunc(rec.Spec.Publish, func(p banger.Port) bool { return p.Matches(q) }) {
				return nil, banger.Errorf(banger.KindNotFound, "VM %s does not publish port %d/%s", rec.Name, q.HostPort, q.Protocol).
					WithNext("banger vm port list %s", rec.Name)
			}
		}
		return slices.DeleteFunc(slices.Clone(rec.Spec.Publish), func(p banger.Port) bool {
			return slices.ContainsFunc(gone, p.Matches)
		}), nil
	})
}

// changePorts makes a VM publish what change says: the row first, then the
// monitor. When that refuses, the row is put back. A daemon that dies in between
// leaves the row, which the next one gives to the monitor.
func (m *Manager) changePorts(ctx context.Context, ref string, change func(banger.Record) ([]banger.Port, error)) (banger.VM, Outcome, error) {
	rec, unlock, err := m.locked(ctx, ref)
	if err != nil {
		return banger.VM{}, Outcome{}, err
	}
	defer unlock()
	before := rec.Spec.Publish
	want, err := change(rec)
	if err != nil {
		return banger.VM{}, Outcome{}, err
	}
	if slices.Equal(before, want) {
		return m.observe(rec), Outcome{}, nil
	}
	ctx = context.WithoutCancel(ctx) // what is begun is finished
	err = m.Steps.Run(ctx, rec.ID,
		steps.Step{Name: "port.row", Do: func(ctx context.Context) (err error) {
			rec, err = m.setPorts(ctx, rec, want)
			return err
		}},
		steps.Step{Name: "port.monitor", Do: func(ctx context.Context) error { return m.syncPorts(ctx, rec) }},
	)
	if err != nil {
		_, back := m.setPorts(ctx, rec, before)
		return banger.VM{}, Outcome{}, errors.Join(plainStep(err), back)
	}
	m.tellPorts(ctx, banger.EventPortRemoved, rec, before, want)
	m.tellPorts(ctx, banger.EventPortAdded, rec, want, before)
	return m.observe(rec), Outcome{Changed: true}, nil
}

// tellPorts tells of the ports that are in have and not in lack.
func (m *Manager) tellPorts(ctx context.Context, t banger.EventType, rec banger.Record, have, lack []banger.Port) {
	for _, p := range have {
		if slices.Contains(lack, p) {
			continue
		}
		e := eventOf(ctx, t, rec)
		e.Detail = map[string]string{"host": p.Host(), "guest": p.Guest("")}
		m.Events.Emit(ctx, e)
	}
}

func (m *Manager) setPorts(ctx context.Context, rec banger.Record, ports []banger.Port) (banger.Record, error) {
	after, err := m.Rows.Update(ctx, rec.ID, func(r *banger.Record) error {
		r.Spec.Publish = ports
		return nil
	})
	if err != nil {
		return rec, err
	}
	return after, nil
}

// syncPorts has the monitor of a live VM listen on what the row says.
func (m *Manager) syncPorts(ctx context.Context, rec banger.Record) error {
	if !m.alive(rec.ID) {
		return nil
	}
	asking, cancel := context.WithTimeout(ctx, portsTimeout)
	defer cancel()
	err := m.monitorOf(rec.ID).SyncPorts(asking, rec.Spec.Publish)
	switch {
	case err == nil:
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.unlike, rec.ID)
		return nil
	case errors.Is(err, monitor.ErrOld) && len(rec.Spec.Publish) == 0:
		return nil // it publishes none
	case errors.Is(err, monitor.ErrOld):
		return banger.Errorf(banger.KindUnavailable, "VM %s was started by an older banger, which cannot publish ports while it runs", rec.Name).
			WithNext("banger vm restart %s, and again", rec.Name)
	case err != nil && banger.KindOf(err) == banger.KindInternal && asking.Err() == nil && m.awaitFree(ctx, rec.ID, exitTimeout) == nil:
		return nil // it has ended meanwhile; a monitor closes its socket first and frees the lock last
	}
	return err
}

// notePortsRefused tells of ports that a VM which was found running does not
// publish, and has list and show say so for as long as it is true.
func (m *Manager) notePortsRefused(ctx context.Context, rec banger.Record, cause error) {
	m.Log.Warn("publish the ports of a VM that runs", "vm", rec.Name, "err", cause)
	m.mu.Lock()
	m.unlike[rec.ID] = fmt.Sprintf("its ports are not published as asked: %v", cause)
	m.mu.Unlock()
	e := eventOf(ctx, banger.EventPortRefused, rec)
	e.Reason = cause.Error()
	m.Events.Emit(ctx, e)
}

// choosePorts gives each port without a port of the host a free one.
func (m *Manager) choosePorts(ports []banger.Port) ([]banger.Port, error) {
	ports = slices.Clone(ports)
	for i := range ports {
		if ports[i].HostPort != 0 {
			continue
		}
		for range nameTries {
			free, err := m.Ports.Free(ports[i])
			if err != nil {
				return nil, err
			}
			ports[i].HostPort = free
			if !slices.ContainsFunc(slices.Concat(ports[:i], ports[i+1:]), ports[i].Overlaps) {
				break
			}
		}
	}
	return ports, nil
}

// checkPorts says who has one of ports: a VM that runs, or a process.
func (m *Manager) checkPorts(ctx context.Context, id string, ports []banger.Port) error {
	for _, p := range ports {
		if p.HostPort == 0 {
			continue
		}
		err := m.Ports.Probe(p)
		if banger.KindOf(err) == banger.KindConflict {
			err = cmp.Or(m.publishedBy(ctx, id, p), err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// publishedBy is the error for a port that another VM than id has; nil if none
// does.
func (m *Manager) publishedBy(ctx context.Context, id string, p banger.Port) error {
	all, err := m.Rows.List(ctx, m.Owner)
	if err != nil {
		return err
	}
	for _, r := range all {
		if r.ID != id && slices.ContainsFunc(r.Spec.Publish, p.Overlaps) && m.alive(r.ID) {
			return banger.Errorf(banger.KindConflict, "%s/%s of this host is in use by VM %s", p.Host(), p.Protocol, r.Name).
				WithNext("another port, or banger vm port remove %s %s", r.Name, publishedRef(p))
		}
	}
	return nil
}

// publishedRef is p as banger.ParsePublished reads it.
func publishedRef(p banger.Port) string { return fmt.Sprintf("%d/%s", p.HostPort, p.Protocol) }
