package apt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"banger.dev/banger"
)

// Entries are the downloads and the lists of every root beside this one, and of
// this one. What is made of a package does not need it any more.
func (r *Root) Entries(context.Context) ([]banger.CacheEntry, error) {
	base := filepath.Dir(r.dir)
	roots, err := os.ReadDir(base)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list the apt roots: %w", err)
	}
	var all []banger.CacheEntry
	for _, e := range roots {
		dir := filepath.Join(base, e.Name())
		for _, entry := range []banger.CacheEntry{
			{Kind: banger.CachePackages, Name: e.Name(), Path: filepath.Join(dir, archivesDir)},
			{Kind: banger.CacheLists, Name: e.Name(), Path: dir, Current: dir == r.dir},
		} {
			if names, err := namesBut(entry.Path, kept(entry)); err == nil && len(names) > 0 {
				all = append(all, entry)
			}
		}
	}
	return all, nil
}

// kept is what stays in an entry's directory when it is removed.
func kept(e banger.CacheEntry) []string {
	if e.Kind == banger.CacheLists {
		return []string{lockFile, archivesDir}
	}
	return nil
}

// RemoveEntry removes one of Entries. It is KindConflict while somebody
// downloads.
func (r *Root) RemoveEntry(_ context.Context, e banger.CacheEntry) error {
	dir := e.Path
	if e.Kind == banger.CachePackages {
		dir = filepath.Dir(dir)
	}
	lock, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return banger.Errorf(banger.KindConflict, "somebody downloads to %s", dir)
	}
	names, err := namesBut(e.Path, kept(e))
	errs := []error{err}
	for _, name := range names {
		errs = append(errs, os.RemoveAll(filepath.Join(e.Path, name)))
	}
	return errors.Join(errs...)
}

// namesBut are the names in dir that are not among keep.
func namesBut(dir string, keep []string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	var names []string
	for _, e := range entries {
		if !slices.Contains(keep, e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, err
}
