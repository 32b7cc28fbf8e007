package boot

import (
	"os"

	"golang.org/x/sys/unix"

	"banger.dev/banger/internal/agent/wire"
)

// mountSystem mounts what every program expects to find beside the image.
func mountSystem(console Console, config wire.Config) error {
	const quiet = unix.MS_NOSUID | unix.MS_NODEV
	for _, m := range []struct {
		source, target, data string
		flags                uintptr
	}{
		{"devtmpfs", "/dev", "mode=755", unix.MS_NOSUID},
		{"proc", "/proc", "", quiet | unix.MS_NOEXEC},
		{"sysfs", "/sys", "", quiet | unix.MS_NOEXEC},
		{"devpts", "/dev/pts", "gid=5,mode=620,ptmxmode=666", unix.MS_NOSUID | unix.MS_NOEXEC},
		{"tmpfs", "/dev/shm", "mode=1777", quiet},
		{"tmpfs", "/run", "mode=755", quiet},
		{"cgroup2", "/sys/fs/cgroup", "nsdelegate,memory_recursiveprot", quiet | unix.MS_NOEXEC},
	} {
		if err := mountAt(m.source, m.target, m.source, m.flags, m.data); err != nil {
			return err
		}
	}
	for name, target := range map[string]string{
		"/dev/fd": "/proc/self/fd", "/dev/stdin": "/proc/self/fd/0", "/dev/stdout": "/proc/self/fd/1", "/dev/stderr": "/proc/self/fd/2",
	} {
		_ = os.Symlink(target, name) // there already, where a kernel makes them
	}
	if err := os.MkdirAll(Dir, 0o755); err != nil {
		return err
	}
	if _, err := os.Stat("/tmp"); os.IsNotExist(err) {
		if os.Mkdir("/tmp", 0o777) == nil {
			_ = os.Chmod("/tmp", 0o777|os.ModeSticky)
		}
	}
	if config.Modules != "" {
		if err := mountAt("/dev/"+config.Modules, "/lib/modules", "ext4", unix.MS_RDONLY|quiet, ""); err != nil {
			console.Note("no kernel modules: %v", err)
		}
	}
	return nil
}
