package image

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"banger.dev/banger"
)

// List is every whole image in the cache (a damaged one is an entry, see Entries): one for each local name, and one for
// each without any, sorted by name, the newest first. What a catalog entry stands for has that name, and what it stood
// for has none.
func (s *Store) List(ctx context.Context) ([]banger.Image, error) {
	list, named, err := s.named(ctx)
	if err != nil {
		return nil, err
	}
	digests, err := s.digests()
	if err != nil {
		return nil, err
	}
	refs, err := s.refs()
	if err != nil {
		return nil, err
	}
	for _, digest := range digests {
		if named["sha256:"+digest] {
			continue
		}
		img, err := s.load(digest)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errDamaged) {
			continue
		}
		if err != nil {
			return nil, err
		}
		img.Name = s.madeName(refs[img.Digest])
		list = append(list, img)
	}
	slices.SortFunc(list, func(a, b banger.Image) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), b.Created.Compare(a.Created), strings.Compare(a.Digest, b.Digest))
	})
	return list, ctx.Err()
}

// madeName is the name of an entry of the catalog by which an image is found, or "".
func (s *Store) madeName(refs []named) string {
	for _, ref := range refs {
		if s.isCurrent(ref.file) {
			return ref.shown()
		}
	}
	return ""
}

// named is the images with local names, and the set of their digests.
func (s *Store) named(ctx context.Context) ([]banger.Image, map[string]bool, error) {
	entries, err := os.ReadDir(filepath.Dir(s.refFile("")))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	list, named := []banger.Image{}, map[string]bool{}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok || !banger.IsLocalName(name) && !strings.HasPrefix(name, referencePrefix) {
			continue
		}
		img, err := s.lookUp(name)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errDamaged) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		if banger.IsLocalName(name) {
			img.Name = name
		}
		list, named[img.Digest] = append(list, img), true
	}
	return list, named, ctx.Err()
}
