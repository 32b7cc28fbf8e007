package banger

import "time"

// Record is the durable part of a VM: one row of the database. Nothing that is
// true only on this boot of the host is in it.
type Record struct {
	ID           string
	Name         string // unique per owner
	Owner        int    // uid
	Spec         Spec
	Intent       Intent
	Creating     bool   // its create has not finished; a crash leaves it so
	Deleting     bool   // its delete has begun to remove files, and is not taken back
	ImageDigest  string // "" until the create has resolved it
	KernelDigest string
	Machine      MachineIdentity
	Created      time.Time
	LastError    string
	LastExit     *LastExit
	Damaged      string // why the row cannot be read, which then says little else; "" if it can
}

// MachineIdentity is what the first start fixed and every later one reuses, so
// that a VM can be suspended, restored and forked.
type MachineIdentity struct {
	MachineID  string `json:"machine_id"` // of the guest: 32 hex digits
	MAC        string `json:"mac"`
	Generation uint64 `json:"generation"` // counts identities
	VMM        VMM    `json:"vmm"`        // "" before the first start
	VMMVersion string `json:"vmm_version"`
	Machine    string `json:"machine"` // versioned machine type
	CPU        string `json:"cpu"`     // CPU model
	DiskDriver string `json:"disk_driver"`
}
