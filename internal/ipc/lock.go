package ipc

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"banger.dev/banger"
)

// ErrHeld says that somebody else holds the lock.
var ErrHeld = errors.New("the lock is held by another process")

// lockPoll is how long a waiter sleeps between two tries: flock(2) cannot be
// interrupted by a context.
const lockPoll = 10 * time.Millisecond

// Held is a lock that this process holds until Release, or until it ends. It
// needs no reference to it to stay held.
type Held struct {
	mu sync.Mutex
	fd int // -1 once released; no os.File, which would be closed with its last reference
}

// Lock takes the lock at path, or returns ErrHeld at once. The file is made if
// need be and is never removed: a lock on a removed file excludes nobody.
func Lock(path string) (*Held, error) {
	for {
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, banger.Errorf(banger.KindInternal, "lock %s: %w", path, err)
		}
		err = flock(fd)
		if err == nil && stillAt(path, fd) {
			return &Held{fd: fd}, nil
		}
		unix.Close(fd)
		if err == unix.EWOULDBLOCK {
			return nil, ErrHeld
		}
		if err != nil {
			return nil, banger.Errorf(banger.KindInternal, "lock %s: %w", path, err)
		}
		// Something swept the directory between open and flock: once more.
	}
}

// LockWait takes the lock at path as soon as it is free. It gives up when ctx
// ends, with an error that names the lock and has ctx's as its cause.
func LockWait(ctx context.Context, path string) (*Held, error) {
	tick := time.NewTicker(lockPoll)
	defer tick.Stop()
	for {
		held, err := Lock(path)
		if !errors.Is(err, ErrHeld) {
			return held, err
		}
		select {
		case <-ctx.Done():
			return nil, banger.Errorf(kindOfEnd(ctx), "waiting for the lock %s, which another process holds: %w", path, ctx.Err())
		case <-tick.C:
		}
	}
}

// kindOfEnd tells giving up for want of an answer from being interrupted.
func kindOfEnd(ctx context.Context) banger.Kind {
	if errors.Is(ctx.Err(), context.Canceled) {
		return banger.KindCancelled
	}
	return banger.KindUnavailable
}

// Release gives the lock up. Nil on a released one.
func (h *Held) Release() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fd < 0 {
		return nil
	}
	err := unix.Close(h.fd)
	h.fd = -1
	return err
}

func flock(fd int) error {
	for {
		err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		if err != unix.EINTR {
			return err
		}
	}
}

// stillAt says whether path still names the open file.
func stillAt(path string, fd int) bool {
	var named, open unix.Stat_t
	return unix.Lstat(path, &named) == nil && unix.Fstat(fd, &open) == nil && named.Dev == open.Dev && named.Ino == open.Ino
}
