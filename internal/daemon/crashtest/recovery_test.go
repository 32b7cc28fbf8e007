package crashtest

import (
	"errors"
	"fmt"
	"os"

	"banger.dev/banger"
	"banger.dev/banger/internal/daemon/fault"
	"banger.dev/banger/internal/proc"
)

// recover is no verb: whatever the next daemon does before it answers.
func (h *home) recover(string) error {
	_, err := h.list()
	return err
}

// endUnseen kills the daemon and then a VM's monitor.
func (h *home) endUnseen(vm string) error {
	d, err := h.show(vm)
	if err != nil {
		return err
	}
	if d.Handles == nil {
		return fmt.Errorf("%s is %s", vm, d.State)
	}
	return errors.Join(h.killDaemon(), proc.Kill(d.Handles.MonitorPID, d.Handles.MonitorStart, patience))
}

// cutOff leaves a VM half made, and no daemon.
func (h *home) cutOff(vm string) error {
	return h.dieAfter("create.keys", func() error { return h.create(vm, h.spec, nil) })
}

// halfDelete leaves a VM half deleted, and no daemon. Where the client has asked
// the next daemon, which had finished the delete by then, it is tried again.
func (h *home) halfDelete(vm string) error {
	for {
		var deleted error
		err := h.dieAfter("delete.mark", func() error { deleted = h.delete(vm, false); return deleted })
		if err != nil || banger.KindOf(deleted) != banger.KindNotFound {
			return err
		}
		if err := h.create(vm, h.spec, nil); err != nil {
			return err
		}
	}
}

// dieAfter kills the daemon in a verb.
func (h *home) dieAfter(step string, verb func() error) error {
	if err := h.faults.Arm(fault.Fault{Step: step, After: true, Kind: fault.Kill}); err != nil {
		return err
	}
	if err := verb(); err == nil {
		return fmt.Errorf("what was to be cut off after %s has ended well", step)
	}
	return h.faults.Disarm()
}

// loseDisk breaks a VM that is stopped.
func (h *home) loseDisk(vm string) error {
	d, err := h.show(vm)
	if err != nil {
		return err
	}
	return os.Remove(h.layout.VM(d.ID).SystemDisk("qcow2"))
}
