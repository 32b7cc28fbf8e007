package boot

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"banger.dev/banger/internal/agent/wire"
)

// PrepareInit sees to it that the image's init does not undo what the agent has
// done. All of it is on a tmpfs, so that the image stays as it is.
func PrepareInit(config wire.Config, systemd bool) error {
	var errs []error
	write := func(name, content string) {
		errs = append(errs, os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(content), 0o644))
	}
	if systemd {
		// Commands run long before it looks at /tmp: it must neither be cleared
		// nor hidden below a tmpfs.
		write("/run/tmpfiles.d/tmp.conf", "")
		const units = "/run/systemd/system"
		errs = append(errs, os.MkdirAll(units, 0o755), os.Symlink("/dev/null", filepath.Join(units, "tmp.mount")))
	}
	if n := config.Network; n != nil {
		write("/run/systemd/network/00-banger.network", fmt.Sprintf("[Match]\nMACAddress=%s\n\n[Link]\nUnmanaged=yes\n", n.MAC))
		write("/run/NetworkManager/conf.d/00-banger.conf", fmt.Sprintf("[keyfile]\nunmanaged-devices=mac:%s\n", n.MAC))
	}
	return errors.Join(errs...)
}

// ExecInit makes this process the image's init, with the console and a clean
// environment. It returns only if it fails.
func ExecInit(path string) error {
	console, err := unix.Open("/dev/console", unix.O_RDWR|unix.O_NOCTTY, 0)
	if err == nil {
		for fd := range 3 {
			_ = unix.Dup2(console, fd)
		}
		if console > 2 {
			_ = unix.Close(console)
		}
	}
	_ = unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC)
	env := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=linux"}
	return fmt.Errorf("running %s: %w", path, unix.Exec(path, []string{path}, env))
}

// Unmount writes everything out and takes the disks out of use, so that the
// next boot finds them clean.
func Unmount() {
	unix.Sync()
	_ = os.Chdir("/")
	points := diskMounts()
	for i := len(points) - 1; i >= 0; i-- {
		if points[i] == "/" || unix.Unmount(points[i], 0) != nil {
			_ = unix.Mount("", points[i], "", unix.MS_REMOUNT|unix.MS_RDONLY, "")
		}
	}
	unix.Sync()
}

// diskMounts is where disks are mounted, in order of mounting.
func diskMounts() []string {
	f, err := os.Open("/proc/self/mounts")
	if err != nil {
		return []string{"/"}
	}
	defer func() { _ = f.Close() }()
	var points []string
	for scan := bufio.NewScanner(f); scan.Scan(); {
		fields := strings.Fields(scan.Text())
		if len(fields) > 2 && strings.HasPrefix(fields[0], "/dev/") {
			points = append(points, unescape(fields[1]))
		}
	}
	return points
}

// unescape undoes what the kernel does to blanks in a path.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
