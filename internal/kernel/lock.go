package kernel

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
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

// Leftovers are the half-made kernels whose builder is dead: its lock is free.
func (s *Store) Leftovers(ctx context.Context) ([]string, error) {
	var left []string
	err := s.abandoned(ctx, "", func(dir string) error {
		left = append(left, dir)
		return nil
	})
	return left, err
}

// Sweep removes the Leftovers.
func (s *Store) Sweep(ctx context.Context) error { return s.sweep(ctx, "") }

// sweep is Sweep for a builder that holds the lock of digest own.
func (s *Store) sweep(ctx context.Context, own string) error {
	return s.abandoned(ctx, own, func(dir string) error {
		s.log.InfoContext(ctx, "remove what a pull that was killed left", "dir", dir)
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("sweep the kernel store: %w", err)
		}
		return nil
	})
}

// abandoned calls each with what builders that died left, while the lock keeps
// others from that digest. The lock of digest own is the caller's.
func (s *Store) abandoned(ctx context.Context, own string, each func(dir string) error) error {
	left, err := fs.Glob(os.DirFS(s.dir), tmpPrefix+"*")
	if err != nil {
		return err
	}
	for _, name := range left {
		digest, _, _ := strings.Cut(strings.TrimPrefix(name, tmpPrefix), "-")
		if err := s.ifFree(digest, own, func() error { return each(filepath.Join(s.dir, name)) }); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// ifFree calls do with the lock of a digest held, unless another builder holds it.
func (s *Store) ifFree(digest, own string, do func() error) error {
	if digest == own {
		return do()
	}
	lock, err := s.tryLock(digest)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	return do()
}
