package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"banger.dev/banger"
	"banger.dev/banger/internal/hold"
	"banger.dev/banger/internal/paths"
	"banger.dev/banger/internal/userns"
)

func newHolds(dir string) *hold.Table { return &hold.Table{Dir: filepath.Join(dir, "users")} }

// Hold notes that the VM with this directory needs an image, until the directory
// is gone or Release is called. It is KindNotFound if the image is not here.
func (s *Store) Hold(ctx context.Context, digest, vm string) error {
	return s.images.Add(ctx, paths.DigestDir(digest), vm, func() error {
		return here(filepath.Join(s.dir(digest), rootFS), "the image "+digest)
	})
}

// HoldTemplate is Hold for what Template gives for this size.
func (s *Store) HoldTemplate(ctx context.Context, size banger.Bytes, vm string) error {
	return s.templates.Add(ctx, templateName(size), vm, func() error {
		return here(filepath.Join(s.layout.Templates(), templateName(size)), "the empty file system below the VM's work disk")
	})
}

// Keep notes that a VM needs no image but this one any more.
func (s *Store) Keep(digest, vm string) error { return s.images.Keep(paths.DigestDir(digest), vm) }

// Release notes that a VM needs nothing any more.
func (s *Store) Release(vm string) error {
	return errors.Join(s.images.Release(vm), s.templates.Release(vm))
}

// here says that what a VM needs is not in the cache.
func here(path, what string) error {
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return banger.Errorf(banger.KindNotFound, "%s is gone from the cache: there is no %s", what, path)
	}
	return err
}

// Entries are the images in the cache, whole or not, their layers, and the
// templates.
func (s *Store) Entries(context.Context) ([]banger.CacheEntry, error) {
	digests, err := s.digests()
	if err != nil {
		return nil, err
	}
	refs, err := s.refs()
	if err != nil {
		return nil, err
	}
	var all []banger.CacheEntry
	for _, hex := range digests {
		e := banger.CacheEntry{Kind: banger.CacheImage, Digest: "sha256:" + hex, Path: s.dir(hex)}
		var names []string
		for _, ref := range refs[e.Digest] {
			names, e.Current = append(names, ref.shown()), e.Current || s.isCurrent(ref.file)
		}
		e.Name = cmp.Or(strings.Join(names, ", "), hex[:minDigits])
		if e.Holders, err = s.images.Holders(hex); err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	layers, err := s.layerEntries(all)
	if err != nil {
		return nil, err
	}
	templates, err := s.templateEntries()
	return slices.Concat(all, layers, templates), err
}

// isCurrent says whether Resolve goes by a reference.
func (s *Store) isCurrent(ref string) bool {
	name, _, made := strings.Cut(ref, "@")
	if !made || strings.HasPrefix(ref, referencePrefix) {
		return true
	}
	entry, ok := s.settings().Catalog[name]
	return ok && entry.Builder != nil && ref == catalogKey(entry)
}

// named is a reference, by the name of its file.
type named struct {
	file string
	name string // of a registry's image
}

// shown is what people call it.
func (n named) shown() string {
	file, _, _ := strings.Cut(n.file, "@")
	return cmp.Or(n.name, file)
}

// refs are all references, by the digest that they name.
func (s *Store) refs() (map[string][]named, error) {
	entries, err := os.ReadDir(filepath.Dir(s.refFile("")))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	byDigest := map[string][]named{}
	for _, e := range entries {
		var r reference
		if name, ok := strings.CutSuffix(e.Name(), ".json"); ok && readJSON(s.refFile(name), &r) == nil {
			byDigest[r.Digest] = append(byDigest[r.Digest], named{name, r.Name})
		}
	}
	return byDigest, nil
}

func (s *Store) templateEntries() ([]banger.CacheEntry, error) {
	var all []banger.CacheEntry
	var failed []error
	for _, name := range namesIn(s.layout.Templates(), &failed) {
		if !strings.HasPrefix(name, "work-") {
			continue
		}
		e := banger.CacheEntry{Kind: banger.CacheTemplate, Name: name, Path: filepath.Join(s.layout.Templates(), name), Current: true}
		holders, err := s.templates.Holders(name)
		e.Holders, failed = holders, append(failed, err)
		all = append(all, e)
	}
	return all, errors.Join(failed...)
}

// RemoveEntry removes one of Entries. It is KindConflict while a VM needs it.
func (s *Store) RemoveEntry(ctx context.Context, e banger.CacheEntry) error {
	switch e.Kind {
	case banger.CacheTemplate:
		return s.templates.Remove(ctx, e.Name, func() error { return os.Remove(e.Path) })
	case banger.CacheLayer:
		return s.removeLayer(filepath.Base(e.Path))
	}
	return s.Remove(ctx, e.Digest)
}

// Remove removes an image and its names. It is KindConflict while a VM needs it.
// From one moment to the next it is gone; what is left of it after a crash is
// swept.
func (s *Store) Remove(ctx context.Context, digest string) error {
	hex := paths.DigestDir(digest)
	if !hexDigestRE.MatchString(hex) {
		return banger.Errorf(banger.KindInvalid, "%q is no image's digest", digest)
	}
	refs, err := s.refs()
	if err != nil {
		return err
	}
	away := filepath.Join(s.layout.Images(), "tmp", "removed-"+hex)
	if err := errors.Join(makeDirs(filepath.Dir(away)), userns.RemoveAll(ctx, away)); err != nil {
		return err
	}
	if err := s.images.Remove(ctx, hex, func() error { return os.Rename(s.dir(hex), away) }); err != nil {
		return fmt.Errorf("remove the image %s: %w", digest, err)
	}
	errs := []error{userns.RemoveAll(ctx, away)}
	for _, ref := range refs["sha256:"+hex] {
		errs = append(errs, os.Remove(s.refFile(ref.file)))
	}
	return errors.Join(append(errs, s.sweepLayers())...)
}
