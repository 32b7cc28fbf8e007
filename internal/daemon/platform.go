package daemon

import (
	"context"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"banger.dev/banger"
	"banger.dev/banger/internal/doctor"
	"banger.dev/banger/internal/lifecycle"
	"banger.dev/banger/internal/vmm/qemu"
)

// newPlatform says what this host offers. What takes time is found out once, in
// the background; where the VMM is, at each call: it may be installed meanwhile.
func newPlatform() func() lifecycle.Platform {
	probe := sync.OnceValue(func() doctor.Host {
		h, err := doctor.Probe()
		if err != nil { // sysinfo(2) does not fail with a valid pointer
			return doctor.Host{}
		}
		return h
	})
	version := sync.OnceValue(qemuVersion)
	go func() {
		probe()
		version()
	}()
	return func() lifecycle.Platform {
		h := probe()
		binary, missing := doctor.QEMU()
		p := lifecycle.Platform{
			Host: h.Host, VMM: banger.VMMQEMU, Binary: binary, Missing: missing,
			Accel: h.Accel(), Machine: qemu.MachineType, CPU: qemu.CPUModel, TSCKHz: h.TSCKHz,
			RunAs: func(id string) (uint32, uint32, bool) { return runAs(id, h) },
		}
		if missing == nil {
			p.Version = version()
		}
		return p
	}
}

// qemuVersion is QEMU's version such as 7.2.22, or "" if it does not say.
func qemuVersion() string {
	binary, err := doctor.QEMU()
	if err != nil {
		return ""
	}
	return doctor.Version(context.Background(), binary)
}

// VMMs of root run under a uid for each VM, so that one that breaks out of its
// guest owns nothing and cannot touch another. The range is one that systemd's
// UIDS-GIDS lists as unused.
const (
	firstVMUID = 1879048192
	vmUIDBits  = 24
)

// runAs is the identity of a VM's VMM: nobody else's for root, our own for a
// plain user. Where root is that of a container without these uids, the VMM
// runs as root there.
func runAs(id string, h doctor.Host) (uid, gid uint32, ok bool) {
	if os.Geteuid() != 0 {
		return 0, 0, false
	}
	n, err := strconv.ParseUint(id[:vmUIDBits/4], 16, vmUIDBits)
	if err != nil || !mapped(firstVMUID+n) {
		return 0, 0, false
	}
	uid, gid = uint32(firstVMUID+n), uint32(firstVMUID+n)
	if info, err := os.Stat("/dev/kvm"); err == nil && h.KVM == nil {
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			gid = st.Gid
		}
	}
	return uid, gid, true
}

// mapped says whether a uid exists in this process's user namespace.
func mapped(uid uint64) bool {
	b, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) != 3 {
			continue
		}
		first, err1 := strconv.ParseUint(f[0], 10, 64)
		count, err2 := strconv.ParseUint(f[2], 10, 64)
		if err1 == nil && err2 == nil && uid >= first && uid < first+count {
			return true
		}
	}
	return false
}
