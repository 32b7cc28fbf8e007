// Package monitor is the one process that stands beside each running VM: the
// VMM's parent, owner of the guest's console and of the channel to its agent.
// It outlives the daemon; when it dies the VM dies. It has no policy and no
// database: it does what its order says and tells how it went.
package monitor

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/agent/wire"
	"banger.dev/banger/internal/network"
	"banger.dev/banger/internal/paths"
	"banger.dev/banger/internal/vmm"
)

// Order is all that a monitor is told; it comes on stdin.
type Order struct {
	ID      string     `json:"id"`
	Name    string     `json:"name"`
	Files   paths.VM   `json:"files"`
	VMM     banger.VMM `json:"vmm"`
	Machine vmm.Config `json:"machine"`
	// Network is for the stack behind the machine's network card; nil without one.
	Network *network.Settings `json:"network,omitempty"`
	// BootTimeout ends a boot whose guest is not ready by then.
	BootTimeout time.Duration `json:"boot_timeout"`
	// Request is the id of the request that started the VM, for the log.
	Request string `json:"request,omitempty"`
	// LeaseTimeout, where not zero, kills the VM when nobody holds a lease that
	// long after it was ready, or when the last lease is dropped.
	LeaseTimeout time.Duration `json:"lease_timeout"`
	// Publish are the ports to listen on from before the VMM runs.
	Publish []banger.Port `json:"publish,omitempty"`
}

// Status is what a monitor knows of its VM.
type Status struct {
	MonitorPID int         `json:"monitor_pid"`
	VMM        vmm.Handle  `json:"vmm"`
	Started    time.Time   `json:"started"`
	Stage      string      `json:"stage"` // of the boot, see wire
	Ready      bool        `json:"ready"`
	Hello      *wire.Hello `json:"hello,omitempty"` // when ready
	Paused     bool        `json:"paused"`
	Reason     string      `json:"reason,omitempty"` // why it is paused, when nobody asked
	Pauses     int         `json:"pauses"`           // how often it was paused, by whomever
	Boots      int         `json:"boots"`            // 1, and one more for each reboot of the guest
	// The phases of the present boot so far; when it is ready, the last is "ready".
	Phases []banger.BootPhase `json:"phases,omitempty"`
	// Network counts what went through the VM's network; nil without one.
	Network *network.Stats `json:"network,omitempty"`
}

// Before says whether a monitor said s before it said t.
func (s Status) Before(t Status) bool {
	switch {
	case s.Boots != t.Boots:
		return s.Boots < t.Boots
	case s.Pauses != t.Pauses:
		return s.Pauses < t.Pauses
	case s.Paused != t.Paused:
		return s.Paused && s.Pauses > 0 // of one pause; an old monitor does not count them
	}
	return !s.Ready && t.Ready
}

// Exit is how a VM's run ended; the content of exit.json.
type Exit struct {
	banger.LastExit
	Detail  string `json:"detail"`  // one line for people
	Stage   string `json:"stage"`   // the last stage of the boot, when it was not ready
	Console string `json:"console"` // the end of the console, at most ConsoleTail bytes
}

// Reasons for the end of a run; they are part of the JSON schema.
const (
	ReasonPoweroff    = "poweroff"     // the guest powered itself off, or was asked to
	ReasonKilled      = "killed"       // by the user, or because its client was gone
	ReasonPanic       = "panic"        // the guest's kernel panicked
	ReasonBootFailed  = "boot-failed"  // it ended, or time ran out, before it was ready
	ReasonRebootLimit = "reboot-limit" // it rebooted too often in a minute
	ReasonVMMFailed   = "vmm-failed"   // the VMM died by itself
	ReasonMonitorDied = "monitor-died" // nobody was left to say; set by the daemon
)

// started is the monitor's one line on stdout: the VMM runs, or why not.
type started struct {
	Status *Status `json:"status,omitempty"`
	Error  string  `json:"error,omitempty"`
	// Refused is Error with its kind, where that is known.
	Refused *banger.Error `json:"refused,omitempty"`
}

// maxOrder bounds what is read from stdin.
const maxOrder = 1 << 20

func readOrder(r io.Reader) (Order, error) {
	var o Order
	dec := json.NewDecoder(io.LimitReader(r, maxOrder))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&o); err != nil {
		return o, fmt.Errorf("the monitor's order on stdin: %w", err)
	}
	if !banger.IsID(o.ID) || o.Files.Dir == "" || o.Files.Run == "" || o.BootTimeout <= 0 {
		return o, fmt.Errorf("the monitor's order is incomplete")
	}
	return o, nil
}
