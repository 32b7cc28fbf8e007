package workspace

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"banger.dev/banger"
	"banger.dev/banger/internal/du"
)

// scratch makes a directory for one prepare or export, and removes what those
// have left that were killed: nobody else has the lock.
func (s slot) scratch() (string, error) {
	if err := s.sweep(); err != nil {
		return "", err
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return "", err
	}
	return os.MkdirTemp(s.dir, "scratch-")
}

func (s slot) sweep() error {
	var failed []error
	for _, pattern := range []string{
		"scratch-*", "base.git/objects/tmp_*", "base.git/objects/*/tmp_*", "base.git/*.lock", "base.git/refs/banger/*.lock",
	} {
		names, err := fs.Glob(os.DirFS(s.dir), pattern)
		failed = append(failed, err)
		for _, name := range names {
			failed = append(failed, os.RemoveAll(filepath.Join(s.dir, name)))
		}
	}
	return errors.Join(failed...)
}

// spare is how much a base repository may hold that is of no use.
const spare = 64 * banger.MiB

// tidy drops content that is no longer copied, once it is most of what is stored.
func (s slot) tidy(ctx context.Context, st state) error {
	var count du.Counter
	stored, err := count.Tree(filepath.Join(s.base(), "objects"))
	if err != nil || stored < spare {
		return err
	}
	used, err := s.used(ctx, st)
	if err != nil || stored < 2*used+spare {
		return err
	}
	if _, err := s.own(st).run(ctx, "repack", "-a", "-d", "-l", "-q", "--window=0"); err != nil {
		return err
	}
	_, err = s.own(st).run(ctx, "prune", "--expire=now")
	return err
}

// used is what the content that only the base repository has takes there.
func (s slot) used(ctx context.Context, st state) (banger.Bytes, error) {
	sizes, err := inOwn(s.base()).about(ctx, st.Host, "%(objectsize:disk)")
	var total banger.Bytes
	for _, size := range sizes {
		if n, err := strconv.ParseInt(size, 10, 64); err == nil { // not one that is missing
			total += banger.Bytes(n)
		}
	}
	return total, err
}
