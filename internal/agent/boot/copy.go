package boot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// copyTree copies a directory tree as it is: owners, modes, times, extended
// attributes, hard links, holes and special files. It stays in one file system.
func copyTree(from, to string) error {
	c := copier{links: map[uint64]string{}}
	from, err := filepath.EvalSymlinks(from)
	if err != nil {
		return err
	}
	return filepath.WalkDir(from, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return fmt.Errorf("%s: no stat", name)
		}
		if name == from {
			c.device = st.Dev
		} else if st.Dev != c.device {
			if d.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		target := filepath.Join(to, name[len(from):])
		if err := c.copy(name, target, st); err != nil {
			return fmt.Errorf("copying %s: %w", name, err)
		}
		return nil
	})
}

type copier struct {
	device uint64
	links  map[uint64]string // inode → its first copy
}

func (c *copier) copy(from, to string, st *syscall.Stat_t) error {
	kind := st.Mode & syscall.S_IFMT
	if kind != syscall.S_IFDIR && st.Nlink > 1 {
		if first, ok := c.links[st.Ino]; ok {
			return os.Link(first, to)
		}
		c.links[st.Ino] = to
	}
	if err := create(from, to, st, kind); err != nil {
		return err
	}
	if err := os.Lchown(to, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if kind != syscall.S_IFLNK { // after chown, which clears setuid
		if err := unix.Chmod(to, st.Mode&0o7777); err != nil {
			return err
		}
	}
	if err := copyXattrs(from, to); err != nil {
		return err
	}
	// A directory's time is lost again as its content is made; nobody misses it.
	return unix.UtimesNanoAt(unix.AT_FDCWD, to, []unix.Timespec{
		{Sec: st.Atim.Sec, Nsec: st.Atim.Nsec}, {Sec: st.Mtim.Sec, Nsec: st.Mtim.Nsec},
	}, unix.AT_SYMLINK_NOFOLLOW)
}

func create(from, to string, st *syscall.Stat_t, kind uint32) error {
	switch kind {
	case syscall.S_IFDIR:
		return os.Mkdir(to, 0o700)
	case syscall.S_IFREG:
		return copyFile(from, to, st.Size)
	case syscall.S_IFLNK:
		target, err := os.Readlink(from)
		if err != nil {
			return err
		}
		return os.Symlink(target, to)
	default:
		return unix.Mknod(to, st.Mode, int(st.Rdev))
	}
}

// copyFile copies the data and leaves the holes.
func copyFile(from, to string, size int64) (err error) {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = src.Close() }()
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	for at := int64(0); at < size; {
		data, err := unix.Seek(int(src.Fd()), at, unix.SEEK_DATA)
		if err == unix.ENXIO {
			break // the rest is a hole
		}
		if err != nil {
			return err
		}
		hole, err := unix.Seek(int(src.Fd()), data, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if _, err := dst.Seek(data, io.SeekStart); err != nil {
			return err
		}
		if _, err := io.Copy(dst, io.NewSectionReader(src, data, hole-data)); err != nil {
			return err
		}
		at = hole
	}
	if err := dst.Truncate(size); err != nil {
		return err
	}
	// Not every file system knows this; those that do not need not be told.
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, dst.Fd(), ext4AllocDABlks, 0)
	return nil
}

func copyXattrs(from, to string) error {
	size, err := unix.Llistxattr(from, nil)
	if err == unix.ENOTSUP || err == nil && size == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	names := make([]byte, size)
	if size, err = unix.Llistxattr(from, names); err != nil {
		return err
	}
	for name := range bytes.SplitSeq(bytes.TrimSuffix(names[:size], []byte{0}), []byte{0}) {
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(from, string(name), value)
		if err != nil {
			return fmt.Errorf("attribute %s: %w", name, err)
		}
		if err := unix.Lsetxattr(to, string(name), value[:n], 0); err != nil && err != unix.ENOTSUP {
			return fmt.Errorf("attribute %s: %w", name, err)
		}
	}
	return nil
}
