// Command init stands in for the agent: it loads the boot modules in their
// order, shows what the guest then has, and resets the machine.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

func main() {
	fmt.Println("test: init runs")
	mount("devtmpfs", "/dev", "devtmpfs", 0)
	mount("proc", "/proc", "proc", 0)
	mount("sysfs", "/sys", "sysfs", 0)
	order, err := os.ReadFile("/modules/order")
	if err != nil {
		fail(err)
	}
	for line := range strings.Lines(string(order)) {
		load(strings.TrimSpace(line))
	}
	for range 100 {
		if _, err := os.Stat("/dev/vda"); err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	list("/dev/vda", "/dev/hwrng", "/sys/class/net/*", "/sys/class/virtio-ports/*")
	var uname syscall.Utsname
	_ = syscall.Uname(&uname)
	if err := os.Mkdir("/mnt", 0o755); err != nil {
		fail(err)
	}
	mount("/dev/vda", "/mnt", "ext4", syscall.MS_RDONLY)
	list("/mnt/" + text(uname.Release[:]) + "/modules.dep.bin")
	fmt.Println("test: done")
	_ = syscall.Reboot(syscall.LINUX_REBOOT_CMD_RESTART)
}

func text(field []int8) string {
	var b strings.Builder
	for _, c := range field {
		if c == 0 {
			break
		}
		b.WriteByte(byte(c))
	}
	return b.String()
}

func mount(source, target, fstype string, flags uintptr) {
	if err := syscall.Mount(source, target, fstype, flags, ""); err != nil {
		fail(fmt.Errorf("mount %s: %w", target, err))
	}
}

func load(file string) {
	f, err := os.Open(file)
	if err != nil {
		fail(err)
	}
	defer f.Close()
	const finitModule = 313 // on x86-64
	none := []byte{0}
	if _, _, errno := syscall.Syscall(finitModule, f.Fd(), uintptr(unsafe.Pointer(&none[0])), 0); errno != 0 {
		fail(fmt.Errorf("load %s: %w", file, errno))
	}
	fmt.Println("test: loaded", file)
}

func list(patterns ...string) {
	for _, p := range patterns {
		found, _ := filepath.Glob(p)
		for _, f := range found {
			fmt.Println("test: has", f)
		}
	}
}

func fail(err error) {
	fmt.Println("test: failed:", err)
	_ = syscall.Reboot(syscall.LINUX_REBOOT_CMD_RESTART)
}
