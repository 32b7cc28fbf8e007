package image_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"banger.dev/banger"
	"banger.dev/banger/internal/image"
	"banger.dev/banger/internal/paths"
)

// A manifest or reference that is cut off or scribbled upon costs a new pull,
// and neither the VMs that are laid over the image nor other images.
func TestDamagedImageIsMadeAgainAndStaysForItsVMs(t *testing.T) {
	needStore(t)
	for name, damage := range map[string]func(t *testing.T, img banger.Image, layout paths.Layout) string{
		"manifest": func(_ *testing.T, img banger.Image, _ paths.Layout) string {
			return filepath.Join(filepath.Dir(img.RootFS), "manifest.json")
		},
		"reference": func(_ *testing.T, _ banger.Image, layout paths.Layout) string {
			return filepath.Join(layout.Images(), "refs", "stub@1.json")
		},
	} {
		for how, content := range map[string]string{"cut off": `{"version": 1, "na`, "empty": "", "scribbled upon": "\x00\xff{}"} {
			t.Run(name+" "+how, func(t *testing.T) {
				layout := paths.Layout{Cache: t.TempDir()}
				var builds atomic.Int32
				s := image.New(layout, catalog(stub{key: "1", tar: root(t, "one"), builds: &builds}))
				img, err := s.Resolve(t.Context(), "stub", nil)
				if err != nil {
					t.Fatal(err)
				}
				other, err := s.AddTar(t.Context(), "other", strings.NewReader(string(root(t, "other"))), image.Config{}, nil)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(damage(t, img, layout), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
				if base, err := s.Resolve(t.Context(), img.Digest, nil); err != nil || base.RootFS != img.RootFS || base.Size != img.Size {
					t.Errorf("for its VMs: %+v, %v", base, err)
				}
				if _, ok, err := s.Have(t.Context(), "stub"); ok || err != nil {
					t.Errorf("have: %v, %v", ok, err)
				}
				if list, err := s.List(t.Context()); err != nil || len(list) == 0 {
					t.Errorf("list: %v, %v", list, err)
				}
				if all, err := s.Entries(t.Context()); err != nil || len(all) != 2 {
					t.Errorf("entries: %v, %v", all, err)
				}
				again, err := s.Resolve(t.Context(), "stub", nil)
				if err != nil || again.Digest != img.Digest || again.Init != img.Init || builds.Load() != 2 {
					t.Errorf("again: %+v, %v, after %d builds", again, err, builds.Load())
				}
				if got, err := s.Resolve(t.Context(), "other", nil); err != nil || got.Digest != other.Digest {
					t.Errorf("another: %+v, %v", got, err)
				}
				nothingHalfMade(t, layout)
			})
		}
	}
}

// A base that is shorter than it was cannot be what VMs were laid over.
func TestACutOffFileSystemIsNotUsed(t *testing.T) {
	needStore(t)
	layout := paths.Layout{Cache: t.TempDir()}
	s := image.New(layout, nil)
	img, err := s.AddTar(t.Context(), "mine", strings.NewReader(string(root(t, "one"))), image.Config{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(img.RootFS, int64(img.Size)/2); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{"mine", img.Digest} {
		if _, err := s.Resolve(t.Context(), ref, nil); err == nil || !strings.Contains(err.Error(), img.RootFS) || banger.NextOf(err) == "" {
			t.Errorf("%s: %v", ref, err)
		}
	}
	if err := s.Remove(t.Context(), img.Digest); err != nil {
		t.Errorf("it cannot be removed: %v", err)
	}
}
