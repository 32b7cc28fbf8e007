package crashtest

import (
	"errors"
	"fmt"

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
	if err := h.faults.Arm(fault.Fault{Step: "create.keys", After: true, Kind: fault.Kill}); err != nil {
		return err
	}
	if err := h.create(vm, h.spec, nil); err == nil {
		return errors.New("a create that was to be cut off has ended well")
	}
	return h.faults.Disarm()
}
