package kernel

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"banger.dev/banger"
	"banger.dev/banger/internal/paths"
)

// Hold notes that the VM with this directory needs a kernel, until the directory
// is gone or Release is called. It is KindNotFound if the kernel is not here.
func (s *Store) Hold(ctx context.Context, digest, vm string) error {
	name := paths.DigestDir(digest)
	return s.holds.Add(ctx, name, vm, func() error {
		_, err := os.Stat(filepath.Join(s.dir, name, fileVMLinux))
		if errors.Is(err, fs.ErrNotExist) {
			return banger.Errorf(banger.KindNotFound, "the kernel %s is gone from the cache: there is no %s", digest, filepath.Join(s.dir, name))
		}
		return err
	})
}

// Keep notes that a VM needs no kernel but this one any more.
func (s *Store) Keep(digest, vm string) error { return s.holds.Keep(paths.DigestDir(digest), vm) }

// Release notes that a VM needs nothing any more.
func (s *Store) Release(vm string) error { return s.holds.Release(vm) }

// Entries are the kernels in the store, whole or not.
func (s *Store) Entries(context.Context) ([]banger.CacheEntry, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list kernels: %w", err)
	}
	current := ""
	if k, err := s.cached(); err == nil {
		current = paths.DigestDir(k.Digest)
	}
	var all []banger.CacheEntry
	for _, e := range entries {
		if len(e.Name()) != 64 || !hexPrefixRE.MatchString(e.Name()) {
			continue
		}
		entry := banger.CacheEntry{
			Kind: banger.CacheKernel, Name: e.Name()[:12], Digest: "sha256:" + e.Name(), Path: filepath.Join(s.dir, e.Name()), Current: e.Name() == current,
		}
		if k, _, err := s.open(e.Name()); err == nil {
			entry.Name = k.Release
		}
		if entry.Holders, err = s.holds.Holders(e.Name()); err != nil {
			return nil, err
		}
		all = append(all, entry)
	}
	return all, nil
}

// RemoveEntry removes one of Entries. It is KindConflict while a VM needs it.
func (s *Store) RemoveEntry(ctx context.Context, e banger.CacheEntry) error {
	return s.Remove(ctx, e.Digest)
}

// Remove removes a kernel. It is KindConflict while a VM needs it. From one
// moment to the next it is gone; what is left of it after a crash is swept.
func (s *Store) Remove(ctx context.Context, digest string) error {
	name := paths.DigestDir(digest)
	if len(name) != 64 || !hexPrefixRE.MatchString(name) {
		return banger.Errorf(banger.KindInvalid, "%q is no kernel's digest", digest)
	}
	away := filepath.Join(s.dir, tmpPrefix+name+"-removed")
	if err := os.RemoveAll(away); err != nil {
		return err
	}
	if err := s.holds.Remove(ctx, name, func() error { return os.Rename(filepath.Join(s.dir, name), away) }); err != nil {
		return fmt.Errorf("remove the kernel %s: %w", digest, err)
	}
	return os.RemoveAll(away)
}
