// Package vmm is the contract between banger and the programs that run virtual
// machines. Drivers are in firecracker/ and qemu/; vmmtest/ has a fake and the
// suite that every driver passes. The monitor is the only caller.
package vmm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"banger.dev/banger"
)

// Driver starts machines.
type Driver interface {
	// Start runs the VMM and lets the guest's vCPUs go. ctx bounds the call,
	// never the machine's life. After an error nothing is left: no process, no
	// descriptor, no file. The calling thread becomes the VMM's parent for the
	// parent-death signal, so the caller must stay on a locked thread that lives
	// as long as the machine (prctl(2), PR_SET_PDEATHSIG).
	Start(ctx context.Context, cfg Config) (Machine, error)
	// Features says what the driver's machines can do; it is constant.
	Features() Features
}

// Features are abilities that not every driver has.
type Features struct {
	Name  banger.VMM
	Vsock bool // the guest is reached by vsock, else by the Channel
	Pause bool // Machine implements Pauser
	Grow  bool // Machine implements Grower
}

// Config is one machine, complete: the driver looks nothing up.
type Config struct {
	ID        string       `json:"id"`     // of the VM, for names that a person may meet in ps
	Binary    string       `json:"binary"` // the VMM's program
	Accel     string       `json:"accel"`  // kvm or tcg
	Machine   string       `json:"machine"`
	CPU       string       `json:"cpu"`
	VCPUs     int          `json:"vcpus"`
	Memory    banger.Bytes `json:"memory"`
	Kernel    string       `json:"kernel"` // uncompressed ELF
	Initramfs string       `json:"initramfs"`
	Cmdline   string       `json:"cmdline"`
	Disks     []Disk       `json:"disks"` // vda, vdb, …
	NIC       *NIC         `json:"nic"`
	RunAs     *Credential  `json:"run_as"` // nil: as the caller

	// Console takes what the guest writes to its serial console, in order, from
	// one goroutine. Log takes what the VMM itself says.
	Console io.Writer `json:"-"`
	Log     io.Writer `json:"-"`
	// Hold are descriptors the VMM keeps open for life, such as the VM's lock.
	Hold []*os.File `json:"-"`
}

// Disk is one virtio block device.
type Disk struct {
	Path          string `json:"path"`
	Format        string `json:"format"`         // raw or qcow2; always given, never probed
	Backing       string `json:"backing"`        // path of the read-only base, or ""
	BackingFormat string `json:"backing_format"` // of Backing
	ReadOnly      bool   `json:"read_only"`
	Volatile      bool   `json:"volatile"` // need not survive a crash of the host: flushes are not passed on
}

// NIC is one virtio network device. Its frames come out at the Networker.
type NIC struct {
	MAC string `json:"mac"`
}

// Credential is the unprivileged identity of a VMM.
type Credential struct {
	UID uint32 `json:"uid"`
	GID uint32 `json:"gid"`
}

// Machine is one running VMM. All methods may be called from any goroutine.
type Machine interface {
	Handle() Handle
	// Wait returns how the VMM ended; at once if it has. Any number may wait.
	Wait(ctx context.Context) (Exit, error)
	// Shutdown asks the guest by the VMM's own means (the power button) and
	// returns when the process is gone, or with ctx's error. Nil on a dead one.
	Shutdown(ctx context.Context) error
	// Kill ends the VMM without asking the guest. On return the process is
	// gone. Nil on a dead one.
	Kill() error
	// Events reports what happens to the machine until it ends, then is closed.
	// There is one reader. A driver drops an event rather than wait for it.
	Events() <-chan Event
}

// Channeler is a Machine without vsock: one byte stream to the guest, which
// belongs to the caller until the machine ends. EventChannel tells when the
// guest opens and closes its end. A close that an opening follows at once may
// not be told: an end that is opened has been closed before.
type Channeler interface {
	Channel() Stream
}

// Networker is a Machine whose guest's frames are its caller's to carry: each way
// one after the other, each after its length in 4 bytes, big endian. The stream
// belongs to the caller until the machine ends. It is nil where Config.NIC is.
type Networker interface {
	Network() Stream
}

// Stream is a byte stream whose reads and writes can be interrupted: a descriptor
// that does not block.
type Stream interface {
	io.ReadWriteCloser
	syscall.Conn
	SetDeadline(t time.Time) error
}

// Pauser is a Machine whose vCPUs can be stopped.
type Pauser interface {
	Pause(ctx context.Context) error
	Resume(ctx context.Context) error
}

// Meter is a Machine that counts what its guest reads from and writes to its disks.
type Meter interface {
	// Disks are the counts since the VMM was started, in the order of
	// Config.Disks. The VMM has the guest inside it: they may be anything.
	Disks(ctx context.Context) ([]DiskCount, error)
}

// DiskCount counts what went through one disk, in bytes as the guest sees them.
type DiskCount struct {
	Read    uint64 `json:"read"`
	Written uint64 `json:"written"`
}

// Grower is a Machine whose disks can be made larger while it runs.
type Grower interface {
	// Grow makes the disk with this place in Config.Disks size bytes large and
	// tells the guest, which hears of it a moment later. One that is as large
	// already stays as it is; one that is read-only cannot be grown.
	Grow(ctx context.Context, disk int, size banger.Bytes) error
}

// Handle identifies the VMM's process on this boot of the host.
type Handle struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // /proc/<pid>/stat field 22
}

// Event is something that happened to a machine.
type Event struct {
	Type   EventType
	Open   bool   // of EventChannel: the guest has opened its end
	Reason string // of EventPaused: why, when nobody asked
}

// EventType says which.
type EventType int

// The events.
const (
	EventChannel EventType = iota + 1
	EventPaused
	EventResumed
)

// Exit is how a VMM ended.
type Exit struct {
	Code   int       `json:"code"`   // -1 if a signal ended it
	Signal string    `json:"signal"` // "" if none did
	Cause  Cause     `json:"cause"`
	Time   time.Time `json:"time"`
}

// Cause is why a machine ended, as far as its VMM knows.
type Cause string

// The causes.
const (
	CausePoweroff Cause = "poweroff" // the guest powered itself off, asked by Shutdown or not
	CauseReset    Cause = "reset"    // the guest asked for a reset, or panicked
	CauseKilled   Cause = "killed"   // Kill of ours
	CauseFailed   Cause = "failed"   // anything else: the VMM died by itself
)

func (e Exit) String() string {
	if e.Signal != "" {
		return fmt.Sprintf("%s (signal %s)", e.Cause, e.Signal)
	}
	return fmt.Sprintf("%s (exit code %d)", e.Cause, e.Code)
}

// ErrUnsupported is returned for an ability that the driver or the host lacks.
var ErrUnsupported = errors.New("not supported by this VMM")
