package ipc

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"banger.dev/banger"
)

// PrivateDir makes path a directory that only this user can enter: it is made
// with its parents, or it is there already, is ours and is no symbolic link,
// and loses the rights that others have. In /tmp anybody may have made it
// first; one that others can write to is refused, for what is in it may be theirs.
func PrivateDir(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		var place *fs.PathError
		if errors.As(err, &place) {
			err = place.Err // the message has the path already
		}
		return banger.Errorf(banger.KindUnavailable, "make the directory %s: %w", path, err).WithNext("ls -ld %s", filepath.Dir(path))
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return unfit(path, "is a symbolic link")
	}
	if err != nil {
		return banger.Errorf(banger.KindUnavailable, "open the directory %s: %w", path, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return banger.Errorf(banger.KindInternal, "look at the directory %s: %w", path, err)
	}
	switch {
	case int(st.Uid) != os.Geteuid():
		return unfit(path, "belongs to another user")
	case st.Mode&0o022 != 0:
		return unfit(path, "can be written by other users")
	case st.Mode&0o077 != 0:
		if err := unix.Fchmod(fd, 0o700); err != nil {
			return banger.Errorf(banger.KindInternal, "make the directory %s private: %w", path, err)
		}
	}
	return nil
}

func unfit(path, why string) error {
	return banger.Errorf(banger.KindUnavailable, "%s %s, so banger does not put its sockets there", path, why).
		WithNext("remove it, or set BANGER_HOME to a directory of your own")
}
