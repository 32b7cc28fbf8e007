package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"banger.dev/banger"
)

// lock waits until nobody else holds the lock called name, in this or another
// process, or for ctx. Close the file to release it; the kernel does when the
// process dies. Order: a ref's lock, a digest's lock, the apt root's lock.
func (s *Store) lock(ctx context.Context, name string, report banger.ProgressFunc) (*os.File, error) {
	for told := false; ; told = true {
		f, err := s.tryLock(name)
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return f, err
		}
		if !told {
			report.Report(banger.Progress{Stage: stageKernel, Message: "waiting for another pull"})
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// tryLock is lock without waiting: EWOULDBLOCK while somebody holds it. Lock
// files are never removed, for a removed one could be held by two.
func (s *Store) tryLock(name string) (*os.File, error) {
	dir := filepath.Join(s.dir, "locks")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the kernel store: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE|syscall.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock kernel %s: %w", name, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock kernel %s: %w", name, err)
	}
	return f, nil
}

const tmpPrefix = "tmp-" // tmp-<digest>-<random>

// sweep removes what builders that died left. The lock of digest own is held;
// a directory whose digest is locked by another belongs to a live builder.
func (s *Store) sweep(own string) error {
	left, err := filepath.Glob(filepath.Join(s.dir, tmpPrefix+"*"))
	if err != nil {
		return err
	}
	for _, dir := range left {
		digest, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), tmpPrefix), "-")
		if digest != own {
			lock, err := s.tryLock(digest)
			if err != nil {
				continue
			}
			defer func() { _ = lock.Close() }()
		}
		s.log.Info("remove what a pull that was killed left", "dir", dir)
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("sweep the kernel store: %w", err)
		}
	}
	return nil
}
