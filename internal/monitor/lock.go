package monitor

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// The lock is an open-file-description lock (fcntl(2), F_OFD_SETLK): it can be
// asked for without being taken, so an observer never makes a VM look alive,
// and the VMM holds it too by inheriting the descriptor, so it is free only
// when both are gone.

// lockFile takes the VM's lock for the life of the returned file.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lock); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
			return nil, fmt.Errorf("another monitor runs this VM (it holds %s)", path)
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}

// Held says whether a monitor or its VMM holds the VM's lock.
func Held(path string) (bool, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }()
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lock); err != nil {
		return false, fmt.Errorf("ask for the lock %s: %w", path, err)
	}
	return lock.Type != unix.F_UNLCK, nil
}
