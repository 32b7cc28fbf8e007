package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"banger.dev/banger"
	"banger.dev/banger/internal/image/ext4"
)

// Template is the path of an empty ext4 of this size that new work disks are
// laid over. It is made once for a cache and never written to.
func (s *Store) Template(ctx context.Context, size banger.Bytes) (string, error) {
	if size < banger.MinDisk || size > banger.MaxDisk {
		return "", banger.Errorf(banger.KindInvalid, "a work disk of %s cannot be: from %s to %s", size, banger.MinDisk, banger.MaxDisk)
	}
	name := templateName(size)
	path := filepath.Join(s.layout.Templates(), name)
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return path, err
	}
	unlock, err := lock(ctx, s.templateLock(name), func() {})
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return path, err
	}
	if err := makeDirs(s.layout.Templates()); err != nil {
		return "", err
	}
	if err := ext4.Sweep(path); err != nil {
		return "", err
	}
	return path, ext4.Empty(ctx, path, ext4.Options{Size: size, Label: "banger-work"})
}

func templateName(size banger.Bytes) string { return fmt.Sprintf("work-%d.ext4", size) }

func (s *Store) templateLock(name string) string {
	return filepath.Join(s.layout.Templates(), "locks", name)
}
