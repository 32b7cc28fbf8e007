package image

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"banger.dev/banger"
)

// List is every whole image in the cache (a damaged one is an entry, see Entries): one for each local name, and one for
// each without any, sorted by name, the newest first. What a catalog entry stands for has that name, and what it stood
// for has none.
func (s *Store) List(ctx context.Context) ([]banger.Image, error) {
	digests, err := s.digests()
	if err != nil {
		return nil, err
	}
	refs, err := s.refs()
	if err != nil {
		return nil, err
	}
	list := []banger.Image{}
	for _, digest := range digests {
		img, err := s.load(digest)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errDamaged) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, name := range s.listedAs(refs[img.Digest]) {
			img.Name = name
			list = append(list, img)
		}
	}
	slices.SortFunc(list, func(a, b banger.Image) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), b.Created.Compare(a.Created), strings.Compare(a.Digest, b.Digest))
	})
	return list, ctx.Err()
}

// listedAs are the names of an image that it was given or pulled by; of one without
// any the name of an entry of the catalog by which it is found, or "".
func (s *Store) listedAs(refs []named) []string {
	var given []string
	made := ""
	for _, ref := range refs {
		switch {
		case banger.IsLocalName(ref.file), strings.HasPrefix(ref.file, referencePrefix):
			given = append(given, ref.shown())
		case made == "" && s.isCurrent(ref.file):
			made = ref.shown()
		}
	}
	if len(given) == 0 {
		return []string{made}
	}
	return given
}
