package image

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// lockPoll is how often a waiter looks whether a lock is free; flock(2) itself
// cannot be given up when a context ends.
const lockPoll = 100 * time.Millisecond

// errBusy says that somebody else holds a lock.
var errBusy = errors.New("locked by another process")

// tryLock takes the lock file path, or gives errBusy. The kernel lets go of it
// when its holder dies. The file stays: removing it would let two hold it.
func tryLock(path string) (unlock func(), err error) { return flock(path, unix.LOCK_EX) }

func flock(path string, how int) (unlock func(), err error) {
	if err := makeDirs(filepath.Dir(path)); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errBusy
		}
		return nil, &os.PathError{Op: "lock", Path: path, Err: err}
	}
	return func() { _ = f.Close() }, nil
}

// lock takes the lock file path and waits for it as long as ctx allows; wait is
// called once if it has to.
func lock(ctx context.Context, path string, wait func()) (unlock func(), err error) {
	return waitFor(ctx, path, unix.LOCK_EX, wait)
}

// share is lock for one of many who only keep others from having it alone.
func share(ctx context.Context, path string) (unlock func(), err error) {
	return waitFor(ctx, path, unix.LOCK_SH, func() {})
}

func waitFor(ctx context.Context, path string, how int, wait func()) (unlock func(), err error) {
	for first := true; ; first = false {
		unlock, err := flock(path, how)
		if !errors.Is(err, errBusy) {
			return unlock, err
		}
		if first {
			wait()
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(lockPoll):
		}
	}
}
