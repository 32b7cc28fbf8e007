// Package hold keeps account of who needs an entry of a cache that several
// homes share: a link for each holder, which is a directory, and which holds as
// long as that is there. So a home that is deleted holds nothing any more, and
// nobody has to be asked. What the entries are is not known here.
package hold

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"banger.dev/banger"
	"banger.dev/banger/internal/ipc"
	"banger.dev/banger/internal/paths"
)

// Table is the account of one kind of entries. Its methods may be called from
// any goroutine, and several processes may have one of the same directory.
type Table struct {
	// Dir has a directory for each entry, with the links in it, and the lock that
	// keeps an entry from being removed while a holder is added.
	Dir string
}

// link is named after all of the holder's path: a home may be a copy of another.
func (t *Table) link(entry, holder string) string {
	return filepath.Join(t.Dir, entry, filepath.Base(holder)+"-"+paths.CacheKey(holder))
}

// Add notes that holder, a directory that is there, needs entry. present says
// whether that is there still; its error is returned, and nothing is noted.
// What is noted already costs no lock.
func (t *Table) Add(ctx context.Context, entry, holder string, present func() error) error {
	link := t.link(entry, holder)
	if _, err := os.Lstat(link); err == nil {
		return present()
	}
	return t.locked(ctx, func() error {
		if err := present(); err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
			return err
		}
		if err := os.Symlink(holder, link); !errors.Is(err, fs.ErrExist) {
			return err
		}
		return nil
	})
}

// Release notes that holder needs nothing any more.
func (t *Table) Release(holder string) error {
	return t.Keep("", holder)
}

// Keep notes that holder needs no entry but this one any more.
func (t *Table) Keep(entry, holder string) error {
	entries, err := os.ReadDir(t.Dir)
	errs := []error{gone(err)}
	for _, e := range entries {
		if e.IsDir() && e.Name() != entry {
			errs = append(errs, gone(os.Remove(t.link(e.Name(), holder))))
		}
	}
	return errors.Join(errs...)
}

// Holders is how many there are of entry. One of which it cannot be told whether
// it is there counts.
func (t *Table) Holders(entry string) (int, error) {
	n := 0
	err := t.each(entry, func(string) error {
		n++
		return nil
	}, func(string) error { return nil })
	return n, err
}

// each calls alive or dead with every link of entry.
func (t *Table) each(entry string, alive, dead func(link string) error) error {
	dir := filepath.Join(t.Dir, entry)
	links, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, l := range links {
		link := filepath.Join(dir, l.Name())
		do := alive
		if _, err := os.Stat(link); errors.Is(err, fs.ErrNotExist) {
			do = dead
		}
		errs = append(errs, do(link))
	}
	return errors.Join(errs...)
}

// Remove calls remove unless entry has holders, which is a conflict; none can
// come meanwhile. remove should be quick, such as a rename.
func (t *Table) Remove(ctx context.Context, entry string, remove func() error) error {
	return t.locked(ctx, func() error {
		n, err := t.Holders(entry)
		switch {
		case err != nil:
			return err
		case n > 0:
			return banger.Errorf(banger.KindConflict, "%d VMs need it", n)
		}
		if err := remove(); err != nil {
			return err
		}
		return errors.Join(t.each(entry, func(string) error { return nil }, os.Remove), gone(os.Remove(filepath.Join(t.Dir, entry))))
	})
}

func (t *Table) locked(ctx context.Context, do func() error) error {
	if err := os.MkdirAll(t.Dir, 0o755); err != nil {
		return err
	}
	lock, err := ipc.LockWait(ctx, filepath.Join(t.Dir, "lock"))
	if err != nil {
		return fmt.Errorf("note who needs what of the cache: %w", err)
	}
	defer lock.Release()
	return do()
}

// gone is err but for that there was nothing.
func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
