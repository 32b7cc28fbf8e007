package boot

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"banger.dev/banger/internal/agent/users"
	"banger.dev/banger/internal/agent/wire"
)

// mountWork lays the directories of the work disk over the image's. Without a
// work disk there is only /root to be made, where the image has none.
func mountWork(console Console, config wire.Config) error {
	if config.Work == "" {
		return makeHome("/root", 0o700)
	}
	device := "/dev/" + config.Work
	if err := waitFor(device); err != nil {
		return err
	}
	const disk = Dir + "/work"
	if err := mountDisk(console, device, disk); err != nil {
		return err
	}
	for _, dir := range workDirs(config, &users.DB{}) {
		if err := carry(disk, dir); err != nil {
			return fmt.Errorf("work disk: %s: %w", dir, err)
		}
	}
	// The binds stay; the whole disk need not be seen as well.
	_ = unix.Unmount(disk, unix.MNT_DETACH)
	_ = os.Remove(disk)
	return nil
}

// workDirs is what the work disk carries.
func workDirs(config wire.Config, db *users.DB) []string {
	dirs := []string{"/root", "/home"}
	if config.User == "" {
		return dirs
	}
	id, err := db.Lookup(config.User)
	if err != nil {
		return dirs // whoever runs a command is told
	}
	if home := path.Clean(id.Home); ownHome(home) {
		dirs = append(dirs, home)
	}
	return dirs
}

// ownHome says whether a user's home is a place of the user's own that the
// other two do not hold already, and no part of the system: the home of daemon,
// for one, is /usr/sbin.
func ownHome(home string) bool {
	top, rest, _ := strings.Cut(strings.TrimPrefix(home, "/"), "/")
	switch top {
	case "", "root", "home", "bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "run", "sbin", "sys", "tmp", "usr", "nonexistent":
		return false
	case "var", "opt", "srv", "mnt", "media":
		return rest != "" && home != "/var/lib" && home != "/var/run" && !strings.HasPrefix(home, "/var/run/")
	}
	return true
}

// carry binds disk's copy of dir over dir, after making it at the first time.
func carry(disk, dir string) error {
	mode := os.FileMode(0o755)
	if dir == "/root" {
		mode = 0o700
	}
	if err := makeHome(dir, mode); err != nil {
		return err
	}
	name := strings.NewReplacer("%", "%25", "/", "%2F").Replace(strings.TrimPrefix(dir, "/"))
	copied := filepath.Join(disk, name)
	if _, err := os.Lstat(copied); errors.Is(err, os.ErrNotExist) {
		if err := seed(dir, filepath.Join(disk, ".seed-"+name), copied); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	if err := unix.Mount(copied, dir, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mounting the work disk's copy: %w", err)
	}
	return nil
}

func makeHome(dir string, mode os.FileMode) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	return os.Mkdir(dir, mode)
}

// seed copies from to a directory beside to, then gives it its name: a copy
// that was cut short is begun anew. Each file's blocks are allocated before the
// rename, which in ext4's ordered mode puts their content on disk before the name.
func seed(from, temp, to string) error {
	if err := os.RemoveAll(temp); err != nil {
		return err
	}
	if err := copyTree(from, temp); err != nil {
		return err
	}
	return os.Rename(temp, to)
}
