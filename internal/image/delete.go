package image

import (
	"context"
	"os"

	"banger.dev/banger"
)

// Delete takes the name ref away, and with an image's last name, or where ref is
// its digest, the image. It is KindConflict while a VM needs that, and
// KindNotFound if it is not here.
func (s *Store) Delete(ctx context.Context, ref string) (banger.Image, error) {
	img, ok, err := s.Have(ctx, ref)
	if err != nil {
		return img, err
	}
	if !ok {
		return img, banger.Errorf(banger.KindNotFound, "no image %q is here", ref).WithNext("banger image list")
	}
	refs, err := s.refs()
	if err != nil {
		return img, err
	}
	if file, ok := s.nameFile(ref); ok && len(refs[img.Digest]) > 1 {
		return img, os.Remove(s.refFile(file))
	}
	return img, s.Remove(ctx, img.Digest)
}

// nameFile is the file of a local name or a reference; a digest has none.
func (s *Store) nameFile(ref string) (file string, ok bool) {
	names := []string{}
	if banger.IsLocalName(ref) {
		names = append(names, ref)
	}
	if key, ok := s.settings().key(ref); ok {
		names = append(names, key)
	}
	for _, name := range names {
		if _, err := os.Stat(s.refFile(name)); err == nil {
			return name, true
		}
	}
	return "", false
}
