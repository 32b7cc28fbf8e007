package banger

// StrayKind says what a stray is. The words are stable; more may come.
type StrayKind string

// The kinds of strays.
const (
	StrayProcess   StrayKind = "process"   // holds the lock of a VM that has no row
	StraySockets   StrayKind = "sockets"   // a VM's socket directory
	StrayDirectory StrayKind = "directory" // a VM's directory
	StrayLink      StrayKind = "link"      // of a VM's ssh keys
	StrayTemp      StrayKind = "temp"      // half-made, and its maker is dead
	StrayDevice    StrayKind = "device"    // of the host's network or block devices
)

// Stray is something that is left over and belongs to no VM. Its JSON form is
// stable and only grows.
type Stray struct {
	Kind    StrayKind `json:"kind"`
	What    string    `json:"what"`   // a path, a process, the name of a device
	Reason  string    `json:"reason"` // why it is taken for one, for people
	Bytes   Bytes     `json:"bytes"`  // that it takes on disk
	Fixable bool      `json:"fixable"`
	Fixed   bool      `json:"fixed"`           // it has just been removed
	Error   string    `json:"error,omitempty"` // why it could not be
	Next    string    `json:"next,omitempty"`  // what to type about one that is not fixable
}
