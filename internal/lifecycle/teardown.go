package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"banger.dev/banger/internal/steps"
)

const (
	// killTimeout is how long the kernel may take to end a killed process.
	killTimeout = 10 * time.Second
	// exitTimeout is how long a monitor whose VMM is gone may take to write
	// exit.json, send its last replies and end. A disk that is busy takes seconds
	// to have the file.
	exitTimeout = 20 * time.Second
	// freePoll is how often the lock of an ending VM is looked at.
	freePoll = 5 * time.Millisecond
)

// teardown ends everything that a VM has on this boot of the host. It is
// idempotent. A failed start, a crash (by reconcile), stop, kill and delete all
// call it. The order:
//
//  1. the monitor, which takes its VMM with it
//  2. the VMM, should it have been left
//  3. wait until nobody holds the VM's lock; if somebody goes on to, the rest
//     is left for another try, for it says who that is
//  4. the sockets
//  5. handles.json, which named the above and, while it is there, says that
//     the teardown is not over
//
// The caller holds the VM's lock in m.locks.
func (m *Manager) teardown(ctx context.Context, id string) error {
	files := m.files(id)
	err := m.Steps.Run(ctx, id,
		steps.Step{Name: "teardown.processes", Do: func(ctx context.Context) error { return m.endProcesses(ctx, id, false) }},
		steps.Step{Name: "teardown.sockets", Do: func(context.Context) error { return os.RemoveAll(files.Run) }},
		steps.Step{Name: "teardown.handles", Do: func(context.Context) error {
			return errors.Join(m.sweepHalfMade(id), removeFile(files.Handles()))
		}},
	)
	m.mu.Lock()
	m.forget(id)
	delete(m.unlike, id)
	m.mu.Unlock()
	return err
}

// endProcesses does steps 1 to 3 of teardown. With grace a monitor that is
// ending by itself is first given the time to.
func (m *Manager) endProcesses(ctx context.Context, id string, grace bool) error {
	if !m.alive(id) || (grace && m.awaitFree(ctx, id, exitTimeout) == nil) {
		return nil
	}
	err := m.killProcesses(ctx, id)
	if held := m.awaitFree(ctx, id, killTimeout); held != nil {
		return errors.Join(err, held)
	}
	return nil
}

// killProcesses kills the monitor and the VMM of a live VM. The VM's lock is
// not needed: a process is known by its start time too.
func (m *Manager) killProcesses(ctx context.Context, id string) error {
	h := m.processesOf(ctx, id)
	if h == nil {
		return nil
	}
	return errors.Join(
		m.Processes.Kill(h.MonitorPID, h.MonitorStart, killTimeout),
		m.Processes.Kill(h.PID, h.PIDStart, killTimeout))
}

// awaitFree waits until the VM's lock is free: monitor and VMM are gone.
func (m *Manager) awaitFree(ctx context.Context, id string, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	tick := time.NewTicker(freePoll)
	defer tick.Stop()
	for m.alive(id) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("something still holds %s", m.files(id).Lock())
		}
	}
	return nil
}
