// Package doctor finds out what this host can do. It changes nothing and
// decides nothing: the daemon picks drivers by what it reports.
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

// QEMU finds QEMU for x86-64.
func QEMU() (string, error) {
	path, err := Find("qemu-system-x86_64")
	if errors.Is(err, exec.ErrNotFound) {
		return "", banger.Errorf(banger.KindUnavailable, "QEMU is not installed (no qemu-system-x86_64 in PATH)").
			WithNext("sudo apt-get install qemu-system-x86")
	}
	return path, err
}
