// Package fault is what a test can have happen at the steps of a daemon's verbs:
// the daemon, a VM's monitor or its VMM is killed there, or the step fails. It
// is for tests: only a bangerd that was built with the tag faults has it.
package fault

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"banger.dev/banger/internal/monitor"
	"banger.dev/banger/internal/paths"
	"banger.dev/banger/internal/proc"
	"banger.dev/banger/internal/steps"
)

// Variable names the directory of a daemon's faults, see Dir.
const Variable = "BANGER_FAULTS"

// Kind is what happens.
type Kind string

// The kinds.
const (
	Kill        Kind = "kill"         // the daemon is killed
	KillVMM     Kind = "kill-vmm"     // the VM's VMM is
	KillMonitor Kind = "kill-monitor" // the VM's monitor is
	EIO         Kind = "EIO"          // the step fails, now and whenever it is tried again
	ENOSPC      Kind = "ENOSPC"       // the same
	EBUSY       Kind = "EBUSY"        // the step fails once
)

// Kinds is every kind.
func Kinds() []Kind { return []Kind{Kill, EIO, ENOSPC, EBUSY, KillVMM, KillMonitor} }

var errnos = map[Kind]syscall.Errno{EIO: syscall.EIO, ENOSPC: syscall.ENOSPC, EBUSY: syscall.EBUSY}

// OfVM says whether a kind needs a VM that is alive.
func (k Kind) OfVM() bool { return k == KillVMM || k == KillMonitor }

// Fault is one kind at one point, whatever VM comes to it first.
type Fault struct {
	Step  string
	After bool
	Kind  Kind
}

// String is as a Dir holds it, such as "before start.monitor kill".
func (f Fault) String() string {
	return steps.Point{Step: f.Step, After: f.After}.String() + " " + string(f.Kind)
}

// Dir is a directory by which a test arms the faults of a daemon, running or
// not, and reads what points it has come to. The file fault has one fault or is
// not there; the file trace gets a line for each point.
type Dir string

func (d Dir) fault() string { return filepath.Join(string(d), "fault") }
func (d Dir) trace() string { return filepath.Join(string(d), "trace") }

// Arm has f happen, and forgets what was traced before.
func (d Dir) Arm(f Fault) error {
	if err := d.Disarm(); err != nil {
		return err
	}
	return os.WriteFile(d.fault(), []byte(f.String()), 0o600)
}

// Disarm has nothing happen, and forgets what was traced before.
func (d Dir) Disarm() error {
	for _, file := range []string{d.fault(), d.trace()} {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Visit is a point that a daemon has come to.
type Visit struct {
	steps.Point
	Alive bool // the VM was alive then
	Fault bool // the fault that was armed has happened there
}

// Trace is the points that were come to since Arm or Disarm, in order.
func (d Dir) Trace() ([]Visit, error) {
	b, err := os.ReadFile(d.trace())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var visits []Visit
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) != 5 {
			return nil, fmt.Errorf("%s: %q", d.trace(), line)
		}
		visits = append(visits, Visit{
			Point: steps.Point{After: f[0] == "after", Step: f[1], Of: f[2]}, Alive: f[3] == "alive", Fault: f[4] == "fault",
		})
	}
	return visits, nil
}

// note adds a line to the trace, whole, for several VMs may come to points at once.
func (d Dir) note(v Visit) error {
	alive, fault := "dead", "passed"
	if v.Alive {
		alive = "alive"
	}
	if v.Fault {
		fault = "fault"
	}
	f, err := os.OpenFile(d.trace(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, v.Point, v.Of, alive, fault)
	return errors.Join(err, f.Close())
}

// Faults gives a steps.Runner the faults that are armed in d; l is where the
// daemon's VMs are.
func (d Dir) Faults(l paths.Layout) func(steps.Point) error {
	return func(at steps.Point) error {
		armed, err := os.ReadFile(d.fault())
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		kind, here := strings.CutPrefix(string(armed), at.String()+" ")
		vm := l.VM(at.Of)
		alive, err := monitor.Held(vm.Lock())
		if err != nil {
			return err
		}
		if err := d.note(Visit{Point: at, Alive: alive, Fault: here}); err != nil || !here {
			return err
		}
		return d.happen(Kind(kind), vm)
	}
}

func (d Dir) happen(kind Kind, vm paths.VM) error {
	if kind != EIO && kind != ENOSPC {
		if err := os.Remove(d.fault()); err != nil {
			return err
		}
	}
	switch kind {
	case Kill:
		return syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case KillVMM, KillMonitor:
		return killOf(kind, vm)
	}
	if errno, ok := errnos[kind]; ok {
		return errno
	}
	return fmt.Errorf("there is no fault %q", kind)
}

// killTimeout bounds how long a monitor may take to say who it is, and the
// kernel to end what is killed.
const killTimeout = time.Minute

// killOf kills a process of a VM and returns when it is gone. Where none is, or
// it is just ending by itself, nothing happens.
func killOf(kind Kind, vm paths.VM) error {
	ctx, cancel := context.WithTimeout(context.Background(), killTimeout)
	defer cancel()
	s, err := monitor.Connect(vm.MonitorSocket()).Status(ctx)
	if err != nil {
		return nil
	}
	if kind == KillVMM {
		return proc.Kill(s.VMM.PID, s.VMM.Start, killTimeout)
	}
	start, err := proc.StartTime(s.MonitorPID)
	if err != nil {
		return nil
	}
	return proc.Kill(s.MonitorPID, start, killTimeout)
}
