package kernel

import (
	"context"
	"strings"

	"banger.dev/banger"
	"banger.dev/banger/internal/paths"
)

// Delete takes the name ref away, and with a kernel's last name the kernel, as
// it was made for earlier bangers too; where ref is a digest, that kernel. It is
// KindConflict while a VM needs what is to go, and KindNotFound if it is not here.
func (s *Store) Delete(ctx context.Context, ref string) (banger.Kernel, error) {
	k, err := s.Get(ctx, ref)
	if err != nil {
		return k, err
	}
	switch {
	case isNamed(k, ref):
		return k, s.deleteName(ctx, k)
	case strings.HasPrefix(paths.DigestDir(k.Digest), paths.DigestDir(ref)):
		return k, s.Remove(ctx, k.Digest)
	}
	return k, banger.Errorf(banger.KindInvalid, "%s is a release, of which there may be several kernels: say the name or the digest of the one to delete", ref).
		WithNext("banger kernel list")
}

// isNamed says whether ref is the kernel's name.
func isNamed(k banger.Kernel, ref string) bool {
	if r, ok := parseRelease(ref); ok {
		ref = r.name()
	}
	return k.Name != "" && k.Name == ref
}

func (s *Store) deleteName(ctx context.Context, k banger.Kernel) error {
	bySum, err := s.names()
	if err != nil {
		return err
	}
	sum := paths.DigestDir(k.SourceDigest)
	if len(bySum[sum]) > 1 {
		return s.removeRef(k.Name)
	}
	all := s.siblings(sum)
	for _, m := range all {
		if n, err := s.holds.Holders(paths.DigestDir(m.Digest)); err != nil || n > 0 {
			return s.Remove(ctx, m.Digest) // which says so
		}
	}
	if err := s.removeRef(k.Name); err != nil {
		return err
	}
	for _, m := range all {
		if err := s.Remove(ctx, m.Digest); err != nil {
			return err
		}
	}
	return nil
}
