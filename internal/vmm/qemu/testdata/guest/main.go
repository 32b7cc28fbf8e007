// Command guest is /init of the machines that the tests of package qemu boot:
// package testguest's guest with a real machine around it.
package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"banger.dev/banger/internal/vmm/vmmtest/testguest"
)

func main() {
	if err := prepare(); err != nil {
		fmt.Println("test: failed:", err)
		end(testguest.Poweroff)
	}
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		fmt.Println("test: failed:", err)
	}
	end(testguest.Run(context.Background(), machine{&card{}}, string(cmdline)))
}

// end ends the guest when its last words are on their way.
func end(how testguest.How) {
	_ = unix.IoctlSetInt(1, unix.TCSBRK, 1) // drain, see ioctl_tty(2)
	switch how {
	case testguest.Poweroff:
		_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	case testguest.Reset:
		_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	case testguest.Panic:
		os.Exit(1) // the kernel panics when its init ends
	case testguest.Serve, testguest.Hang:
	}
	for {
		time.Sleep(time.Hour)
	}
}

func prepare() error {
	for _, m := range [][2]string{{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}} {
		if err := unix.Mount(m[0], m[1], m[0], 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m[1], err)
		}
	}
	order, err := os.ReadFile("/modules/order")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(order)) {
		if err := load(strings.TrimSpace(line)); err != nil {
			return err
		}
	}
	return nil
}

func load(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("load %s: %w", file, err)
	}
	return nil
}

// machine is this one; card is its network card once "listen" was asked.
type machine struct{ card *card }

func (machine) Console() io.Writer { return os.Stdout }

func (machine) OpenPort() (io.ReadWriteCloser, error) {
	var names []string
	err := eventually(func() error {
		names, _ = filepath.Glob("/sys/class/virtio-ports/*/name")
		if len(names) == 0 {
			return fs.ErrNotExist
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return os.OpenFile("/dev/"+filepath.Base(filepath.Dir(names[0])), os.O_RDWR, 0)
}

// Call answers "get PATH OFFSET LENGTH" and "put PATH OFFSET HEX", which read
// and write a device, "cpuflags", and testguest's lines for the network card.
func (m machine) Call(words []string) string {
	var answer string
	var err error
	switch {
	case len(words) == 1 && words[0] == testguest.Listen:
		answer, err = "ok", m.card.listen()
	case len(words) == 2 && words[0] == testguest.Frames:
		answer, err = "ok", m.card.reflect(words[1])
	default:
		answer, err = call(words)
	}
	if err != nil {
		return "error: " + err.Error()
	}
	return answer
}

func call(words []string) (string, error) {
	switch {
	case len(words) == 1 && words[0] == "cpuflags":
		return cpuFlags()
	case len(words) == 4 && words[0] == "get":
		return get(words[1], words[2], words[3])
	case len(words) == 4 && words[0] == "put":
		return "ok", put(words[1], words[2], words[3])
	}
	return "", fmt.Errorf("unknown: %q", words)
}

func cpuFlags() (string, error) {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(info)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "flags" {
			return strings.TrimSpace(value), nil
		}
	}
	return "", errors.New("no flags in /proc/cpuinfo")
}

func get(path, offset, length string) (string, error) {
	at, n, err := numbers(offset, length)
	if err != nil {
		return "", err
	}
	f, err := open(path, os.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	b := make([]byte, n)
	if _, err := f.ReadAt(b, at); err != nil {
		return "", err
	}
	return hex.EncodeToString(b), nil
}

func put(path, offset, data string) error {
	at, _, err := numbers(offset, "0")
	if err != nil {
		return err
	}
	b, err := hex.DecodeString(data)
	if err != nil {
		return err
	}
	f, err := open(path, os.O_WRONLY)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, at)
	return errors.Join(err, f.Sync(), f.Close())
}

func open(path string, flag int) (*os.File, error) {
	err := eventually(func() error {
		_, err := os.Stat(path)
		return err
	})
	if err != nil {
		return nil, err
	}
	return os.OpenFile(path, flag, 0)
}

func numbers(a, b string) (int64, int64, error) {
	x, err := strconv.ParseInt(a, 10, 64)
	if err != nil {
		return 0, 0, err
	}
	y, err := strconv.ParseInt(b, 10, 64)
	return x, y, err
}

// eventually tries until a device has appeared.
func eventually(try func() error) error {
	var err error
	for range 500 {
		if err = try(); err == nil {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return err
}
