// Package archive makes a tar of files and files of a tar, on both ends of the
// guest channel. It works below one open directory by the names of entries
// alone: no link is ever followed, neither one that was there nor one that the
// archive has brought, and nothing but new files is ever written to. So whoever
// wrote the archive reaches nothing outside of that directory.
//
// It knows nothing of where an archive comes from, nor of rules such as those
// of a copy; whose rights count is the caller's business too.
package archive

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// xattrRecord begins the names of records that are extended attributes.
const xattrRecord = "SCHILY.xattr."

// Local is the name of an entry as a path below the directory, "." for the
// directory itself. What would be outside of it is an error.
func Local(name string) (string, error) {
	clean := path.Clean(strings.TrimLeft(name, "/"))
	if len(clean) > unix.PathMax { // one name could make a million directories
		return "", fmt.Errorf("the archive has a name of %d bytes: %.50q…", len(clean), clean)
	}
	if !filepath.IsLocal(clean) || strings.ContainsRune(clean, 0) {
		return "", fmt.Errorf("the archive names %q, which is outside of the directory", name)
	}
	return clean, nil
}

// OpenDir opens a directory by its path, in which links count.
func OpenDir(name string) (*os.File, error) {
	return os.OpenFile(name, unix.O_DIRECTORY|unix.O_RDONLY, 0)
}

// openat opens what is called base in dir, which holds no slash, and follows no link.
func openat(dir *os.File, base string, flags int, mode uint32) (*os.File, error) {
	fd, err := ignoringEINTR(func() (int, error) {
		return unix.Openat(int(dir.Fd()), base, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
	})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: base, Err: err}
	}
	return os.NewFile(uintptr(fd), base), nil
}

func lstat(dir *os.File, base string) (unix.Stat_t, error) {
	var st unix.Stat_t
	err := unix.Fstatat(int(dir.Fd()), base, &st, unix.AT_SYMLINK_NOFOLLOW)
	return st, err
}

func isDir(st unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFDIR }

func ignoringEINTR(f func() (int, error)) (int, error) {
	for {
		n, err := f()
		if err != unix.EINTR {
			return n, err
		}
	}
}
