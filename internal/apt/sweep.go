package apt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// Leftovers are what downloads that were killed left behind; none while
// somebody is at work in this root.
func (r *Root) Leftovers(context.Context) (left []string, err error) {
	err = r.ifFree(func() error {
		left, err = r.abandoned()
		return err
	})
	return left, err
}

// Sweep removes the Leftovers.
func (r *Root) Sweep(context.Context) error { return r.ifFree(r.sweep) }

// sweep is Sweep with the lock held, so that nobody is at work on them.
func (r *Root) sweep() error {
	left, err := r.abandoned()
	if err != nil {
		return err
	}
	for _, dir := range left {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("sweep the apt root: %w", err)
		}
	}
	return nil
}

func (r *Root) abandoned() ([]string, error) {
	left, err := fs.Glob(os.DirFS(r.dir), "download-*")
	for i, name := range left {
		left[i] = r.path(name)
	}
	return left, err
}

// ifFree calls do with the root's lock held, unless somebody else holds it or
// there is no root yet.
func (r *Root) ifFree(do func() error) error {
	f, err := os.OpenFile(r.path(lockFile), os.O_RDWR|syscall.O_CLOEXEC, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return do()
}
