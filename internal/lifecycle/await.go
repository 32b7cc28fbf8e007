package lifecycle

import (
	"context"

	"banger.dev/banger"
)

// Condition is what can be waited for.
type Condition string

// The conditions.
const (
	UntilStopped Condition = "stopped" // it does not run, and is not being started
	UntilRunning Condition = "running" // its vCPUs run
	UntilReady   Condition = "ready"   // a command can be run in it
)

// Await waits until a VM is as it is wanted, or ctx has ended; reached says
// which. A VM that is deleted meanwhile has stopped; for anything else that is
// an error.
func (m *Manager) Await(ctx context.Context, ref string, until Condition) (vm banger.VM, reached bool, err error) {
	// However short the wait, how the VM is can be said.
	rec, err := m.lookup(context.WithoutCancel(ctx), ref)
	if err != nil {
		return banger.VM{}, false, err
	}
	vm = m.observe(rec)
	for {
		changed := m.change()
		now, there := m.look(ctx, rec)
		if there {
			vm = now
		} else if until == UntilStopped {
			vm.State, vm.Reason = banger.StateStopped, ""
			return vm, true, nil
		} else {
			return vm, false, banger.Errorf(banger.KindNotFound, "VM %s was deleted while it was waited for", rec.Name).WithNext("banger vm list")
		}
		if m.is(vm, until) {
			return vm, true, nil
		}
		if err := m.unfinished(ctx, rec); err != nil {
			return vm, false, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return vm, false, nil
		}
		m.refresh(ctx, &rec)
	}
}

// is says whether a VM that was looked at is as it is wanted.
func (m *Manager) is(vm banger.VM, until Condition) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch until {
	case UntilRunning:
		return vm.State == banger.StateRunning
	case UntilReady:
		return vm.State == banger.StateRunning && m.seen[vm.ID].Ready
	}
	return (vm.State == banger.StateStopped || vm.State == banger.StateBroken) && m.starting[vm.ID] == nil
}
