// Floorinit is PID 1 of the benchmark's floor: the least that boots a Debian
// root and runs one command in it. It loads the modules listed on the kernel
// command line's archive, mounts the root read-only, runs the command, prints a
// mark and powers off.
package main

import (
	"bufio"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	defer func() { _ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF) }()
	if err := run(); err != nil {
		_, _ = os.Stdout.WriteString("floor: failed: " + err.Error() + "\n")
		return
	}
	_, _ = os.Stdout.WriteString("floor: done\n")
}

func run() error {
	for _, m := range [][3]string{{"dev", "/dev", "devtmpfs"}, {"proc", "/proc", "proc"}} {
		if err := unix.Mount(m[0], m[1], m[2], 0, ""); err != nil {
			return err
		}
	}
	if err := loadModules(); err != nil {
		return err
	}
	const device = "/dev/vdb"
	for range 200 {
		if _, err := os.Stat(device); err == nil {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if err := os.Mkdir("/sysroot", 0o755); err != nil {
		return err
	}
	if err := unix.Mount(device, "/sysroot", "ext4", unix.MS_RDONLY, "noload"); err != nil {
		return err
	}
	if err := unix.Chroot("/sysroot"); err != nil {
		return err
	}
	return command()
}

func command() error {
	pid, err := syscall.ForkExec("/usr/bin/true", []string{"true"}, &syscall.ProcAttr{Dir: "/", Files: []uintptr{0, 1, 2}})
	if err != nil {
		return err
	}
	var status syscall.WaitStatus
	_, err = syscall.Wait4(pid, &status, 0, nil)
	return err
}

func loadModules() error {
	list, err := os.Open("/modules/order")
	if err != nil {
		return err
	}
	for s := bufio.NewScanner(list); s.Scan(); {
		if !needed(s.Text()) {
			continue
		}
		f, err := os.Open(s.Text())
		if err != nil {
			return err
		}
		if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && err != unix.EEXIST {
			return err
		}
		_ = f.Close()
	}
	return nil
}

// needed leaves out what a root on a virtio disk does not need.
func needed(module string) bool {
	for _, other := range []string{"net", "console", "rng", "failover"} {
		if strings.Contains(module, other) {
			return false
		}
	}
	return true
}
