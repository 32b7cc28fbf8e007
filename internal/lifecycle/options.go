// Package lifecycle is what happens to a VM: create, start, stop, kill, delete,
// observe and reconcile. It decides and orders; everything that touches the
// host is behind the small interfaces it declares.
package lifecycle

import "time"

// WaitFor says when a start is done.
type WaitFor string

// What a start can wait for.
const (
	WaitReady WaitFor = "ready" // a command can be run
	WaitInit  WaitFor = "init"  // the image's own init has finished too
)

// StartOptions are what a user can say of one start.
type StartOptions struct {
	Wait    WaitFor       // "" is WaitReady
	Timeout time.Duration // of the boot; 0 is DefaultStartTimeout
	// Leased has the monitor kill the VM when the client that holds its lease is
	// gone, or has not come LeaseTimeout after the guest was ready.
	Leased bool
	// Overcommit allows the running VMs more memory than the host has.
	Overcommit bool
}

// Outcome is what a verb did.
type Outcome struct {
	Changed bool   // false: it already was so
	Note    string // for people: what was done otherwise than asked, or ""
}

// DefaultStartTimeout bounds a boot. An emulated one takes some seconds, and many
// times as long on a host that is busy with something else.
const DefaultStartTimeout = 2 * time.Minute

// LeaseTimeout is how long a client may take from the VM's being ready to
// holding its lease.
const LeaseTimeout = time.Minute

// DefaultStopTimeout is how long a guest may take to power off before it is killed.
const DefaultStopTimeout = 10 * time.Second
