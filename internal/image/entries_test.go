package image_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"banger.dev/banger"
	"banger.dev/banger/internal/image"
	"banger.dev/banger/internal/paths"
)

// entries are the cache's, in a line for each: kind, name, holders, current.
func entries(t *testing.T, s *image.Store) (lines []string, byName map[string]banger.CacheEntry) {
	t.Helper()
	all, err := s.Entries(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	byName = map[string]banger.CacheEntry{}
	for _, e := range all {
		lines = append(lines, fmt.Sprint(e.Kind, " ", e.Name, " ", e.Holders, " ", e.Current))
		byName[e.Name] = e
		if _, err := os.Stat(e.Path); err != nil {
			t.Error(err)
		}
	}
	slices.Sort(lines)
	return lines, byName
}

func TestEntriesAreRemovedUnlessAVMNeedsThem(t *testing.T) {
	needStore(t)
	layout := paths.Layout{Cache: t.TempDir()}
	before := image.New(layout, catalog(stub{key: "1", tar: root(t, "one")}))
	old, err := before.Resolve(t.Context(), "stub", nil)
	if err != nil {
		t.Fatal(err)
	}
	s := image.New(layout, catalog(stub{key: "2", tar: root(t, "two")}))
	if _, err := s.Resolve(t.Context(), "stub", nil); err != nil {
		t.Fatal(err)
	}
	mine, err := s.AddTar(t.Context(), "mine", bytes.NewReader(root(t, "mine")), image.Config{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Template(t.Context(), 2*banger.GiB); err != nil {
		t.Fatal(err)
	}
	if err := s.Name("also", mine.Digest); err != nil {
		t.Fatal(err)
	}
	vm := filepath.Join(t.TempDir(), "vm")
	if err := os.Mkdir(vm, 0o700); err != nil {
		t.Fatal(err)
	}
	// Another home's store, that of a build with another catalog.
	if err := errors.Join(before.Hold(t.Context(), old.Digest, vm), before.HoldTemplate(t.Context(), 2*banger.GiB, vm)); err != nil {
		t.Fatal(err)
	}
	lines, byName := entries(t, s)
	if want := []string{"image also, mine 0 true", "image stub 0 true", "image stub 1 false", "template work-2147483648.ext4 1 true"}; !slices.Equal(lines, want) {
		t.Errorf("%q", lines)
	}
	template := byName["work-2147483648.ext4"]
	if err := s.Remove(t.Context(), old.Digest); banger.KindOf(err) != banger.KindConflict {
		t.Errorf("an image that a VM needs: %v", err)
	}
	if err := s.RemoveEntry(t.Context(), template); banger.KindOf(err) != banger.KindConflict {
		t.Errorf("a template that a VM needs: %v", err)
	}
	if err := errors.Join(s.Release(vm), s.Remove(t.Context(), old.Digest), s.RemoveEntry(t.Context(), byName["also, mine"]), s.RemoveEntry(t.Context(), template)); err != nil {
		t.Fatal(err)
	}
	if lines, _ := entries(t, s); !slices.Equal(lines, []string{"image stub 0 true"}) {
		t.Errorf("%q", lines)
	}
	for _, ref := range []string{"mine", mine.Digest, old.Digest} {
		if _, err := s.Resolve(t.Context(), ref, nil); banger.KindOf(err) != banger.KindNotFound {
			t.Errorf("%s: %v", ref, err)
		}
	}
	if err := s.Hold(t.Context(), old.Digest, vm); banger.KindOf(err) != banger.KindNotFound {
		t.Errorf("an image that is gone: %v", err)
	}
	if err := s.HoldTemplate(t.Context(), 2*banger.GiB, vm); banger.KindOf(err) != banger.KindNotFound {
		t.Errorf("a template that is gone: %v", err)
	}
	nothingHalfMade(t, layout)
	if again, err := before.Resolve(t.Context(), "stub", nil); err != nil || again.Digest != old.Digest {
		t.Errorf("it cannot be made again: %+v, %v", again, err)
	}
}

func TestOnlyDigestsAreRemoved(t *testing.T) {
	s := image.New(paths.Layout{Cache: t.TempDir()}, nil)
	for _, digest := range []string{"", "..", "refs", "sha256:../../x"} {
		if err := s.Remove(t.Context(), digest); banger.KindOf(err) != banger.KindInvalid {
			t.Errorf("%q: %v", digest, err)
		}
	}
}
