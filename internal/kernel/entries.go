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
	digests, err := s.digests()
	if err != nil {
		return nil, err
	}
	wanted, err := s.wanted()
	if err != nil {
		return nil, err
	}
	var all []banger.CacheEntry
	for _, hex := range digests {
		entry := banger.CacheEntry{
			Kind: banger.CacheKernel, Name: hex[:12], Digest: "sha256:" + hex, Path: filepath.Join(s.dir, hex), Current: len(wanted[hex]) > 0,
		}
		if k, _, err := s.open(hex); err == nil {
			entry.Name = k.Release
		}
		if entry.Holders, err = s.holds.Holders(hex); err != nil {
			return nil, err
		}
		all = append(all, entry)
	}
	return all, nil
}

// digests are the hex digests of what is in the store.
func (s *Store) digests() ([]string, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list kernels: %w", err)
	}
	var list []string
	for _, e := range entries {
		if len(e.Name()) == 64 && hexPrefixRE.MatchString(e.Name()) {
			list = append(list, e.Name())
		}
	}
	return list, nil
}

// wanted are the names by which kernels are known, by hex digest: with this
// program's agent, or where that is still to be made, with the newest other one.
func (s *Store) wanted() (map[string][]string, error) {
	bySum, err := s.names()
	if err != nil {
		return nil, err
	}
	wanted := map[string][]string{}
	for sum, names := range bySum {
		digest := s.digest(sum)
		if _, _, err := s.open(digest); err != nil {
			old := s.siblings(sum)
			if len(old) == 0 {
				continue
			}
			digest = paths.DigestDir(old[0].Digest)
		}
		wanted[digest] = names
	}
	return wanted, nil
}

// RemoveEntry removes one of Entries. It is KindConflict while a VM needs it.
func (s *Store) RemoveEntry(ctx context.Context, e banger.CacheEntry) error {
	return s.Remove(ctx, e.Digest)
}

// Remove removes a kernel, and names that nothing is left of. It is KindConflict
// while a VM needs it. From one moment to the next it is gone; what is left of it
// after a crash is swept.
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
	return errors.Join(os.RemoveAll(away), s.dropNames())
}

// dropNames removes the names of imported kernels of which nothing is here any
// more. Those of releases stay: they say what to fetch again.
func (s *Store) dropNames() error {
	bySum, err := s.names()
	if err != nil {
		return err
	}
	for sum, names := range bySum {
		if len(s.siblings(sum)) > 0 {
			continue
		}
		for _, name := range names {
			if !isReleaseName(name) {
				err = errors.Join(err, s.removeRef(name))
			}
		}
	}
	return err
}
