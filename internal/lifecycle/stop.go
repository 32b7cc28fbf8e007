package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/monitor"
	"banger.dev/banger/internal/steps"
)

// Stop asks the guest to power off and kills it after timeout (0 is
// DefaultStopTimeout). On return the VM is not alive.
func (m *Manager) Stop(ctx context.Context, ref string, timeout time.Duration) (banger.VM, Outcome, error) {
	rec, unlock, err := m.locked(ctx, ref)
	if err != nil {
		return banger.VM{}, Outcome{}, err
	}
	defer unlock()
	if got, err := m.judge(verbStop, rec); got != act {
		vm, _ := m.settle(ctx, &rec)
		return vm, Outcome{}, err
	}
	return m.halt(ctx, &rec, timeout)
}

// halt ends a live VM's run as Stop does; an ephemeral one is deleted. The
// caller holds its lock.
func (m *Manager) halt(ctx context.Context, rec *banger.Record, timeout time.Duration) (banger.VM, Outcome, error) {
	if timeout == 0 {
		timeout = DefaultStopTimeout
	}
	if err := m.Steps.Run(ctx, rec.ID, m.wantStopped("stop.intent", rec)); err != nil {
		return banger.VM{}, Outcome{}, plainStep(err)
	}
	m.wake(ctx, *rec)
	var killed bool
	err := m.Steps.Run(ctx, rec.ID, steps.Step{Name: "stop.guest", Do: func(ctx context.Context) (err error) {
		killed, err = m.shutdown(ctx, *rec, timeout)
		return err
	}})
	answered, out := err == nil, Outcome{Changed: true}
	switch {
	case err != nil && ctx.Err() != nil:
		return banger.VM{}, Outcome{}, &banger.Error{
			Kind: banger.KindCancelled, Message: fmt.Sprintf("nobody waits any more for %s, which was asked to power off", rec.Name), Err: err,
			Next: "banger vm show " + rec.Name,
		}
	case err != nil && !errors.Is(err, context.DeadlineExceeded) && m.awaitFree(ctx, rec.ID, exitTimeout) == nil:
		// It was ending by itself.
	case err != nil:
		out.Note = fmt.Sprintf("its monitor did not answer (%v), so it was killed", steps.Cause(err))
	case killed:
		out.Note = fmt.Sprintf("the guest did not power off within %s, so it was killed", timeout)
	}
	return m.ended(ctx, rec, out, answered)
}

// wake lets a paused guest go on: it could not hear that it is to power off. One
// that does not go on is killed when its time is up.
func (m *Manager) wake(ctx context.Context, rec banger.Record) {
	if m.observe(rec).State != banger.StatePaused {
		return
	}
	asking, cancel := context.WithTimeout(ctx, pauseTimeout)
	defer cancel()
	if err := m.monitorOf(rec.ID).Resume(asking); err != nil {
		m.Log.InfoContext(ctx, "a paused VM that is to power off does not go on", "vm", rec.Name, "err", err)
	}
}

// shutdownSlack is how much longer than its own deadline a monitor's answer to
// a shutdown is waited for: it writes down how the VM ended first.
const shutdownSlack = 20 * time.Second

func (m *Manager) shutdown(ctx context.Context, rec banger.Record, timeout time.Duration) (killed bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout+shutdownSlack)
	defer cancel()
	return m.monitorOf(rec.ID).Shutdown(ctx, timeout)
}

// errKilled is why a boot is cancelled whose VM is being killed.
var errKilled = errors.New("the VM was killed")

// Kill ends a VM without asking the guest, and without waiting for another verb
// that is under way on it.
func (m *Manager) Kill(ctx context.Context, ref string) (banger.VM, Outcome, error) {
	rec, err := m.lookup(ctx, ref)
	if err != nil {
		return banger.VM{}, Outcome{}, err
	}
	got, err := m.judge(verbKill, rec)
	if err != nil {
		return banger.VM{}, Outcome{}, err
	}
	if got == already {
		if vm, rests := m.atRest(ctx, rec); rests {
			return vm, Outcome{}, m.unfinished(ctx, rec)
		}
	}
	if err := m.Steps.Run(ctx, rec.ID, m.wantStopped("kill.intent", &rec)); err != nil {
		return banger.VM{}, Outcome{}, plainStep(err)
	}
	m.cancel(m.starting, rec.ID, errKilled)
	run := m.runOf(rec.ID)
	var answered bool
	err = m.Steps.Run(context.WithoutCancel(ctx), rec.ID, steps.Step{Name: "kill.vmm", Do: func(ctx context.Context) error {
		answered = m.alive(rec.ID) && m.interrupt(ctx, rec)
		return nil
	}})
	if err != nil { // what is left of it is ended below
		m.Log.ErrorContext(ctx, "kill a VM", "vm", rec.Name, "err", err)
	}
	unlock, err := m.acquire(ctx, rec)
	if err != nil {
		return banger.VM{}, Outcome{}, err
	}
	defer unlock()
	out := Outcome{Changed: true}
	if !m.refresh(context.WithoutCancel(ctx), &rec) { // the verb that was interrupted has deleted it
		return m.lastOf(rec), out, nil
	}
	if m.runOf(rec.ID) != run && m.alive(rec.ID) { // the verb that had the lock has begun another
		answered = m.interrupt(ctx, rec)
	}
	return m.ended(ctx, &rec, out, answered)
}

// atRest is a VM that was found stopped; rests is false if it is being started,
// or has been since.
func (m *Manager) atRest(ctx context.Context, rec banger.Record) (vm banger.VM, rests bool) {
	if m.isUnderway(m.starting, rec.ID) {
		return vm, false
	}
	vm, remains := m.look(ctx, rec)
	if !remains {
		vm = m.lastOf(rec)
	}
	return vm, vm.State != banger.StateRunning && vm.State != banger.StatePaused
}

// lastOf is a VM that has ended and is no more: what is missing of it was deleted.
func (m *Manager) lastOf(rec banger.Record) banger.VM {
	vm := m.observe(rec)
	vm.State, vm.Reason = banger.StateStopped, ""
	return vm
}

// interruptTimeout is how long a monitor may take to kill its VMM.
const interruptTimeout = 5 * time.Second

// interrupt has the monitor kill its VMM; a verb that waits for the guest ends
// by that. A monitor that does not answer is killed itself, and its VMM with
// it. It says whether the monitor answered. The VM's lock is not needed.
func (m *Manager) interrupt(ctx context.Context, rec banger.Record) (answered bool) {
	ctx = context.WithoutCancel(ctx) // what is begun is finished
	asking, cancel := context.WithTimeout(ctx, interruptTimeout)
	defer cancel()
	err := m.monitorOf(rec.ID).Kill(asking)
	if err == nil {
		return true
	}
	m.Log.InfoContext(ctx, "the monitor did not kill its VM", "vm", rec.Name, "err", err)
	if err := m.killProcesses(ctx, rec.ID); err != nil {
		m.Log.ErrorContext(ctx, "kill a VM's processes", "vm", rec.Name, "err", err)
	}
	return false
}

// wantStopped is the step that notes that a VM is not to run.
func (m *Manager) wantStopped(name string, rec *banger.Record) steps.Step {
	return steps.Step{Name: name, Do: func(ctx context.Context) error {
		updated, err := m.Rows.Update(ctx, rec.ID, func(r *banger.Record) error {
			r.Intent = banger.IntentStopped
			return nil
		})
		if err == nil {
			*rec = updated
		}
		return err
	}}
}

// ended settles a VM that a verb has ended; an ephemeral one is deleted. A
// monitor that answered is given the time to write exit.json.
func (m *Manager) ended(ctx context.Context, rec *banger.Record, out Outcome, answered bool) (banger.VM, Outcome, error) {
	clean := context.WithoutCancel(ctx)
	err := m.Steps.Run(clean, rec.ID, steps.Step{Name: "end.processes", Do: func(ctx context.Context) error {
		return m.endProcesses(ctx, rec.ID, answered)
	}})
	if err != nil {
		return banger.VM{}, Outcome{}, fmt.Errorf("VM %s: %w", rec.Name, err)
	}
	m.settleLocked(clean, rec, monitor.ReasonKilled)
	vm := m.observe(*rec)
	if rec.Spec.Ephemeral {
		return vm, out, m.discard(ctx, *rec)
	}
	return vm, out, nil
}
