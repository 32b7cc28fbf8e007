package banger

import "time"

// State is what a VM is at this moment, computed from the host whenever
// somebody asks; only creating is remembered.
type State string

// The states of a VM.
const (
	StateCreating State = "creating" // its create has not finished
	StateRunning  State = "running"  // its monitor holds the VM's lock
	StatePaused   State = "paused"   // alive, but its vCPUs stand still
	StateStopped  State = "stopped"  // not alive; start brings it back
	StateBroken   State = "broken"   // cannot be started; Reason says why, delete works
)

// Intent is what should be true of a VM. Only a user's verb, or poweroff inside
// the guest, changes it.
type Intent string

// The intents.
const (
	IntentRunning Intent = "running"
	IntentStopped Intent = "stopped"
)

// VM is a named machine. It exists until deleted, running or not. This is the
// same object in list and show; its JSON form is stable and only grows.
type VM struct {
	ID          string            `json:"id"`
	Name        string            `json:"name"`
	State       State             `json:"state"`
	Reason      string            `json:"reason"` // why the state is what it is, where that is not plain
	Intent      Intent            `json:"intent"`
	Image       string            `json:"image"`
	ImageDigest string            `json:"image_digest"`
	Kernel      string            `json:"kernel"` // digest
	VCPUs       int               `json:"vcpus"`
	MemoryBytes Bytes             `json:"memory_bytes"`
	DiskBytes   Bytes             `json:"disk_bytes"`
	WorkBytes   Bytes             `json:"work_bytes"`
	Labels      map[string]string `json:"labels"`
	Created     time.Time         `json:"created"`
	Started     *time.Time        `json:"started"`    // null while it is not alive
	LastError   string            `json:"last_error"` // how its last run ended, when not as asked
	LastExit    *LastExit         `json:"last_exit"`
	Ports       []Port            `json:"ports"` // published, running or not
}

// LastExit is how a VM's VMM ended the last time.
type LastExit struct {
	Time   time.Time `json:"time"`
	Code   int       `json:"code"`             // the VMM's exit code, -1 if a signal ended it
	Signal string    `json:"signal,omitempty"` // the signal that ended the VMM
	Reason string    `json:"reason"`           // poweroff, reboot-limit, killed, panic, boot-failed, vmm-failed, monitor-died
}

// Detail is one VM with everything that is known of it.
type Detail struct {
	VM
	Spec    Spec              `json:"spec"`
	Handles *Handles          `json:"handles"` // null while it is not alive
	Paths   map[string]string `json:"paths"`
	// What the VM's image wants run: run gives it CMD behind the entrypoint, and
	// Cmd without one. Both may be null.
	Entrypoint []string `json:"entrypoint"`
	Cmd        []string `json:"cmd"`
	// The guest's own addresses, with the lengths of their subnets, and that of its
	// network card; none without a network.
	Addresses []string `json:"addresses"`
	MAC       string   `json:"mac"`
	// How far the guest's clock is ahead of the host's; null if it is not known.
	ClockDriftMS *int64 `json:"clock_drift_ms"`
	// How the last boot that got ready went, in order; null if none did.
	Boot []BootPhase `json:"boot"`
}

// BootPhase is a part of a boot: a stage of the guest's, and at last "ready".
type BootPhase struct {
	Name    string `json:"name"`
	BeginMS int64  `json:"begin_ms"` // since the VMM was started
}

// Handles is what is true of a VM on this boot of the host. It is written to
// handles.json in the VM's directory, never to the database.
type Handles struct {
	BootID       string `json:"boot_id"`
	PID          int    `json:"pid"`         // of the VMM, 0 before it is started
	PIDStart     uint64 `json:"pid_start"`   // in clock ticks since boot; /proc/<pid>/stat field 22
	MonitorPID   int    `json:"monitor_pid"` // 0 before it is started
	MonitorStart uint64 `json:"monitor_start"`
	VMM          string `json:"vmm"`   // firecracker or qemu
	Accel        string `json:"accel"` // kvm or tcg
	Disk         string `json:"disk"`  // name of the disk driver
	Step         string `json:"step"`  // the last step that start began
	// What it was started with; its spec may have been changed since.
	VCPUs  int   `json:"vcpus"`
	Memory Bytes `json:"memory_bytes"`
}

// VMM names a driver.
type VMM string

// The VMMs.
const (
	VMMAuto        VMM = "auto"
	VMMFirecracker VMM = "firecracker"
	VMMQEMU        VMM = "qemu"
)

// Image is an immutable base root file system, named by its digest.
type Image struct {
	Name         string    `json:"name"`
	Digest       string    `json:"digest"`          // sha256:<64 hex>
	Source       string    `json:"source"`          // where it came from, for people
	RootFS       string    `json:"rootfs"`          // path of rootfs.ext4, never written to
	Size         Bytes     `json:"size"`            // of the file system in it
	Allocated    Bytes     `json:"allocated_bytes"` // of the host's disk, by that
	Created      time.Time `json:"created"`
	Architecture string    `json:"architecture"`
	Init         string    `json:"init,omitempty"` // path of the image's init, "" if it has none
	Env          []string  `json:"env,omitempty"`
	Workdir      string    `json:"workdir,omitempty"`
	User         string    `json:"user,omitempty"`
	Entrypoint   []string  `json:"entrypoint,omitempty"`
	Cmd          []string  `json:"cmd,omitempty"`
	Kernel       string    `json:"kernel,omitempty"` // of its VMs that name none, "" if that is the default one
}

// Kernel is an immutable, digest-named set of files that boots a guest.
type Kernel struct {
	Digest    string    `json:"digest"`  // sha256:<64 hex>
	Release   string    `json:"release"` // uname -r
	Source    string    `json:"source"`
	VMLinux   string    `json:"vmlinux"`   // path of the uncompressed ELF
	Initramfs string    `json:"initramfs"` // path of the cpio with agent and boot modules
	Modules   string    `json:"modules"`   // path of the read-only ext4 for /lib/modules
	Created   time.Time `json:"created"`
	// Name is what it is called: a user's word, or debian-trixie; "" if it is an
	// earlier one of a name, or made for an earlier banger.
	Name         string `json:"name"`
	Default      bool   `json:"default"`       // VMs get it that name none
	SourceDigest string `json:"source_digest"` // sha256:<64 hex> of what it was made of
	ModuleCount  int    `json:"module_count"`  // 0 if it is not known
}

// KernelDetail is a kernel, and who uses it.
type KernelDetail struct {
	Kernel
	Size   Bytes    `json:"size_bytes"` // on the disk
	VMs    []string `json:"vms"`        // names of those that boot it
	Images []string `json:"images"`     // names of those whose VMs get it
}

// Progress is one report of something that takes long.
type Progress struct {
	Stage   string `json:"stage"`   // short and stable: "pull image", "boot"
	Message string `json:"message"` // for people
	Done    int64  `json:"done"`    // bytes or steps so far
	Total   int64  `json:"total"`   // 0 while unknown
	Bytes   bool   `json:"bytes"`   // Done and Total are bytes
}

// ProgressFunc takes reports. It must not block for long and may be nil.
type ProgressFunc func(Progress)

// Report calls f unless it is nil.
func (f ProgressFunc) Report(p Progress) {
	if f != nil {
		f(p)
	}
}
