package banger

import (
	"fmt"
	"strings"
)

// InitMode says who is PID 1 in the guest.
type InitMode string

// The init modes.
const (
	InitAuto InitMode = "auto" // the image's init when it has one, else the agent
	InitNone InitMode = "none" // the agent, which reaps
)

// NetMode says how a guest is connected.
type NetMode string

// The network modes.
const (
	NetUser NetMode = "user"
	NetNone NetMode = "none"
)

// What a VM gets when its user does not say.
const (
	DefaultVCPUs  = 1
	DefaultMemory = 1 * GiB
	DefaultDisk   = 20 * GiB
	DefaultWork   = 20 * GiB
	DefaultImage  = "debian"
)

// Bounds of a spec that do not depend on the host.
const (
	MinMemory = 64 * MiB
	MinDisk   = 1 * GiB
	MaxDisk   = 16 * TiB
	MaxVCPUs  = 32
)

// Spec is what the user asked for. It is durable.
type Spec struct {
	VCPUs  int    `json:"vcpus"`
	Memory Bytes  `json:"memory_bytes"`
	Disk   Bytes  `json:"disk_bytes"`
	Work   Bytes  `json:"work_bytes"` // 0: no work disk
	Image  string `json:"image"`
	Kernel string `json:"kernel,omitempty"` // "": the image's, else the default one
	// KernelArgs stand behind banger's own on the kernel's command line.
	KernelArgs string            `json:"kernel_args,omitempty"`
	Init       InitMode          `json:"init"`
	Net        NetMode           `json:"net"`
	VMM        VMM               `json:"vmm"`
	Env        []string          `json:"env,omitempty"` // K=V, for every command in the VM
	Workdir    string            `json:"workdir,omitempty"`
	User       string            `json:"user,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	Ephemeral  bool              `json:"ephemeral,omitempty"` // deleted as soon as it is not alive
	// Overcommit allows it to be started where the running VMs have more memory than the host.
	Overcommit bool `json:"overcommit,omitempty"`
	// FitDisk says that nobody has chosen Disk: it is larger where the image is.
	FitDisk bool   `json:"fit_disk,omitempty"`
	Publish []Port `json:"publish,omitempty"` // ports of the guest on the host
	// Sync is what the client puts into the VM at each start: SyncConfig, SyncNone
	// or what ParseSync reads. Nothing is SyncConfig, unless it is ephemeral.
	Sync []string `json:"sync,omitempty"`
}

// WithDefaults fills in what the user did not say.
func (s Spec) WithDefaults() Spec {
	if s.VCPUs == 0 {
		s.VCPUs = DefaultVCPUs
	}
	if s.Memory == 0 {
		s.Memory = DefaultMemory
	}
	if s.Disk == 0 {
		s.Disk, s.FitDisk = DefaultDisk, true
	}
	if s.Image == "" {
		s.Image = DefaultImage
	}
	if s.Init == "" {
		s.Init = InitAuto
	}
	if s.Net == "" {
		s.Net = NetUser
	}
	if s.VMM == "" {
		s.VMM = VMMAuto
	}
	return s
}

// Fitting is s with a disk that an image of this size fits on, unless its size was
// chosen.
func (s Spec) Fitting(image Bytes) Spec {
	if s.FitDisk && s.Disk < image {
		s.Disk = DiskFor(image)
	}
	return s
}

// DiskFor is the least size of a disk for an image of this size, in whole GiB.
func DiskFor(image Bytes) Bytes { return (image + GiB - 1) / GiB * GiB }

// Host is what bounds a spec on one host.
type Host struct {
	CPUs   int
	Memory Bytes
}

// Validate says what in s cannot be on this host. s has its defaults.
func (s Spec) Validate(host Host) error {
	maxVCPUs := min(2*host.CPUs, MaxVCPUs)
	switch {
	case s.VCPUs < 1 || s.VCPUs > maxVCPUs:
		return Errorf(KindInvalid, "--vcpus %d: must be from 1 to %d (twice the host's CPUs, at most %d)", s.VCPUs, maxVCPUs, MaxVCPUs)
	case s.Memory < MinMemory || s.Memory > host.Memory:
		return Errorf(KindInvalid, "--memory %s: must be from %s to the host's %s", s.Memory, MinMemory, host.Memory)
	case s.Disk < MinDisk || s.Disk > MaxDisk:
		return Errorf(KindInvalid, "--disk %s: must be from %s to %s", s.Disk, MinDisk, MaxDisk)
	case s.Work != 0 && (s.Work < MinDisk || s.Work > MaxDisk):
		return Errorf(KindInvalid, "--work %s: must be none, or from %s to %s", s.Work, MinDisk, MaxDisk)
	case s.Init != InitAuto && s.Init != InitNone:
		return Errorf(KindInvalid, "--init %q: must be auto or none", s.Init)
	case s.Net != NetUser && s.Net != NetNone:
		return Errorf(KindInvalid, "--net %q: must be user or none", s.Net)
	case s.VMM != VMMAuto && s.VMM != VMMFirecracker && s.VMM != VMMQEMU:
		return Errorf(KindInvalid, "--vmm %q: must be auto, firecracker or qemu", s.VMM)
	}
	for _, e := range s.Env {
		if err := ValidateEnv(e); err != nil {
			return err
		}
	}
	for k, v := range s.Labels {
		if err := validateLabel(k, v); err != nil {
			return err
		}
	}
	if err := ValidatePorts(s.Publish); err != nil {
		return err
	}
	if err := validateSync(s.Sync); err != nil {
		return err
	}
	if err := validateKernelArgs(s.KernelArgs); err != nil {
		return err
	}
	if strings.ContainsRune(s.Workdir, 0) || (s.Workdir != "" && s.Workdir[0] != '/') {
		return Errorf(KindInvalid, "--workdir %q: must be an absolute path in the guest", s.Workdir)
	}
	return nil
}

// ValidateEnv says whether e is K=V with a K.
func ValidateEnv(e string) error {
	key, _, ok := strings.Cut(e, "=")
	if !ok || key == "" || strings.ContainsRune(e, 0) {
		return Errorf(KindInvalid, "--env %q: must be NAME=VALUE", e)
	}
	return nil
}

func validateLabel(k, v string) error {
	if k == "" || len(k) > 128 || len(v) > 1024 || strings.ContainsFunc(k+v, func(r rune) bool { return r < ' ' || r == 0x7f }) || strings.ContainsRune(k, '=') {
		return Errorf(KindInvalid, "--label %s: must be KEY=VALUE, a key of 1 to 128 bytes, a value of at most 1024, both printable", fmt.Sprintf("%q", k+"="+v))
	}
	return nil
}
