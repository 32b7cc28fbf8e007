// Package disk is the contract for a VM's private disks: copy-on-write layers
// over a shared, immutable base. Drivers are in folders of their own; they know
// files and block devices, not VMs.
package disk

import (
	"context"
	"errors"
	"io"

	"banger.dev/banger"
)

// ErrDamaged is the cause of the errors of a file that cannot be opened safely.
var ErrDamaged = errors.New("its VM would lose data if it were used")

// Driver makes and opens overlays.
type Driver interface {
	// Name is how handles.json and people call the driver.
	Name() string
	// Ext is the extension of the overlay's file name, without a dot.
	Ext() string
	// Create makes the overlay's file at path, size bytes large, over base. size
	// is at least base.Size. The file is whole or not there, whatever is killed;
	// an existing one is replaced.
	Create(ctx context.Context, base Base, path string, size banger.Bytes) error
	// Attach says how a VMM opens the overlay. It changes nothing that outlives
	// the host's boot. It is ErrDamaged if the file cannot be one of the driver's.
	Attach(ctx context.Context, base Base, path string) (Attached, error)
	// Grow makes an overlay that no VMM has open size bytes large; one that is as
	// large already stays as it is. What is in it stays, and the new end reads as
	// zeros. Whatever is killed leaves a whole overlay of the old size or the new.
	Grow(ctx context.Context, path string, size banger.Bytes) error
	// Flatten writes what a VM finds on an overlay that no VMM has open, each piece
	// to its place. Zeros may be left out. It is ErrDamaged as Attach is.
	Flatten(ctx context.Context, base Base, path string, w io.WriterAt) error
	// Remove deletes the overlay's file; nil if it is gone.
	Remove(path string) error
}

// Base is the shared layer below, never written to.
type Base struct {
	Path string // a raw file
	Size banger.Bytes
}

// Attached is what a VMM opens.
type Attached struct {
	Path          string
	Format        string // raw or qcow2
	Backing       string // the base, where the VMM lays the overlay over it itself
	BackingFormat string
}
