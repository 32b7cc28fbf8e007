package doctor

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// ioctls of /dev/kvm, see linux/kvm.h.
const (
	kvmGetAPIVersion = 0xAE00
	kvmCreateVM      = 0xAE01
	kvmAPIVersion    = 12
)

// kvm says why /dev/kvm cannot run guests, or nil. That it opens is not enough:
// where the CPU shows no hardware virtualisation a para-virtualising KVM may
// make VMs all the same, in which no stock kernel gets beyond its first
// instructions.
func kvm(flags map[string]bool) error {
	fd, err := unix.Open("/dev/kvm", unix.O_RDWR|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.ENOENT):
		return errors.New("there is no /dev/kvm")
	case errors.Is(err, unix.EACCES):
		return errors.New("no right to open /dev/kvm; sudo usermod -aG kvm $USER, then log in anew")
	case err != nil:
		return fmt.Errorf("/dev/kvm: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	if !flags["vmx"] && !flags["svm"] {
		return errors.New("the CPU shows neither vmx nor svm: hardware virtualisation is off, or not passed on to this machine")
	}
	version, err := unix.IoctlRetInt(fd, kvmGetAPIVersion)
	if err != nil || version != kvmAPIVersion {
		return fmt.Errorf("/dev/kvm speaks version %d, not %d", version, kvmAPIVersion)
	}
	vm, err := unix.IoctlRetInt(fd, kvmCreateVM)
	if err != nil {
		return fmt.Errorf("/dev/kvm makes no VM: %w", err)
	}
	return unix.Close(vm)
}

// cpuFlags are the flags of the first CPU in /proc/cpuinfo.
func cpuFlags() map[string]bool {
	set := map[string]bool{}
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return set
	}
	defer func() { _ = f.Close() }()
	for s := bufio.NewScanner(f); s.Scan(); {
		if list, ok := strings.CutPrefix(s.Text(), "flags"); ok {
			for _, flag := range strings.Fields(list) {
				set[flag] = true
			}
			return set
		}
	}
	return set
}
