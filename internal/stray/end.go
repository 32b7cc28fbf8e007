package stray

import (
	"context"
	"time"

	"banger.dev/banger/internal/monitor"
	"banger.dev/banger/internal/paths"
	"banger.dev/banger/internal/proc"
)

const (
	// politeTimeout is how long the guest of a VM without a row may take to power
	// off: what it has not written yet may be of use to whoever finds its disks.
	politeTimeout = 10 * time.Second
	killTimeout   = 10 * time.Second
)

// end ends a process that holds a VM's lock: through the monitor, if that
// answers, else by a signal.
func end(ctx context.Context, vm paths.VM, p process) error {
	asking, cancel := context.WithTimeout(ctx, 2*politeTimeout)
	defer cancel()
	_, _ = monitor.Connect(vm.MonitorSocket()).Shutdown(asking, politeTimeout) // the kill says whether it is gone
	return proc.Kill(p.pid, p.start, killTimeout)
}
