// Package doctor finds out what this host can do: for the daemon, which picks
// drivers by it, and for people, who want to know what is missing. It changes
// nothing and decides nothing, and needs no daemon.
package doctor

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"banger.dev/banger"

	"golang.org/x/sys/unix"
)

// Host is what was found.
type Host struct {
	banger.Host
	KVM    error  // nil when /dev/kvm runs guests, else why not
	TSCKHz uint64 // of the host's time stamp counter, 0 when it is of no use
}

// Probe looks at the host. It takes some 20 ms, most of it to measure the TSC.
func Probe() (Host, error) {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return Host{}, err
	}
	h := Host{Host: banger.Host{
		CPUs:   runtime.NumCPU(),
		Memory: banger.Bytes(info.Totalram) * banger.Bytes(info.Unit),
	}}
	flags := cpuFlags()
	h.KVM = kvm(flags)
	if flags["constant_tsc"] && flags["nonstop_tsc"] {
		h.TSCKHz = measureTSC()
	}
	return h, nil
}

// Accel is the accelerator QEMU can use here.
func (h Host) Accel() string {
	if h.KVM == nil {
		return "kvm"
	}
	return "tcg"
}

// sbin are directories that a plain user's PATH often lacks.
var sbin = []string{"/usr/local/sbin", "/usr/sbin", "/sbin"}

// Find looks for a program in PATH and where administrators' programs are.
func Find(program string) (string, error) {
	path, err := exec.LookPath(program)
	if err == nil {
		return path, nil
	}
	for _, dir := range sbin {
		path := filepath.Join(dir, program)
		if info, serr := os.Stat(path); serr == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", err
}

// qemuProgram is QEMU for x86-64.
const qemuProgram = "qemu-system-x86_64"

// QEMU finds QEMU for x86-64.
func QEMU() (string, error) {
	path, err := Find(qemuProgram)
	if errors.Is(err, exec.ErrNotFound) {
		return "", noQEMU()
	}
	return path, err
}

func noQEMU() error {
	return banger.Errorf(banger.KindUnavailable, "QEMU is not installed (no %s in PATH)", qemuProgram).
		WithNext("sudo apt-get install qemu-system-x86")
}
