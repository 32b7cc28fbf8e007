package image

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"banger.dev/banger/internal/userns"
)

// Leftovers are the half-made files of images and templates whose maker is
// dead: its lock is free.
func (s *Store) Leftovers(ctx context.Context) ([]string, error) {
	var left []string
	err := s.abandoned(ctx, func(path string) error {
		left = append(left, path)
		return nil
	})
	return left, err
}

// Sweep removes the Leftovers.
func (s *Store) Sweep(ctx context.Context) error {
	return s.abandoned(ctx, func(path string) error { return userns.RemoveAll(ctx, path) })
}

// abandoned calls each with every half-made file whose maker is dead, while the
// lock keeps another from making it.
func (s *Store) abandoned(ctx context.Context, each func(path string) error) error {
	var failed []error
	tmp := filepath.Join(s.layout.Images(), "tmp")
	for _, name := range namesIn(tmp, &failed) {
		failed = append(failed, ifFree(s.lockFile(name), func() error { return each(filepath.Join(tmp, name)) }))
	}
	for _, name := range namesIn(s.layout.Templates(), &failed) {
		if template, ok := halfTemplate(name); ok {
			failed = append(failed, ifFree(s.templateLock(template), func() error { return each(filepath.Join(s.layout.Templates(), name)) }))
		}
	}
	return errors.Join(append(failed, ctx.Err())...)
}

// halfTemplate is the template that a temporary file of ext4's was to become.
func halfTemplate(name string) (template string, ok bool) {
	hidden, ok := strings.CutPrefix(name, ".")
	before, _, half := strings.Cut(hidden, ".ext4.")
	return before + ".ext4", ok && half
}

func namesIn(dir string, failed *[]error) (names []string) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		*failed = append(*failed, err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// ifFree calls do with a lock held, unless somebody else holds it.
func ifFree(path string, do func() error) error {
	unlock, err := tryLock(path)
	if errors.Is(err, errBusy) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unlock()
	return do()
}
