// Package disktest is what every disk.Driver must pass. It is for tests alone.
package disktest

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"banger.dev/banger"
	"banger.dev/banger/internal/disk"
)

// Subject is a driver to test, and the means to look into its overlays.
type Subject struct {
	Driver disk.Driver
	// Write and Read are a VMM's access to an attached overlay.
	Write func(t *testing.T, a disk.Attached, at int64, data []byte)
	Read  func(t *testing.T, a disk.Attached, at int64, n int) []byte
	// Size is how large a guest would find it.
	Size func(t *testing.T, a disk.Attached) banger.Bytes
}

// Suite is what every driver must pass.
func Suite(t *testing.T, s Subject) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, Subject)
	}{
		{"OverlayOverABase", testOverlay},
		{"Replaced", testReplaced},
		{"SmallerThanItsBase", testTooSmall},
		{"Grown", testGrown},
		{"GrownToLess", testGrownToLess},
		{"GrownButGone", testGrownButGone},
		{"Flattened", testFlattened},
		{"RemovedTwice", testRemoved},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, s) })
	}
}

// block is what a base begins with, and what is written over it.
func block(fill string) []byte { return bytes.Repeat([]byte(fill), 1024) }

func newBase(t *testing.T) disk.Base {
	t.Helper()
	path := filepath.Join(t.TempDir(), "base")
	if err := os.WriteFile(path, block("base"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, int64(banger.GiB)); err != nil {
		t.Fatal(err)
	}
	return disk.Base{Path: path, Size: banger.GiB}
}

func (s Subject) overlay(t *testing.T, base disk.Base, size banger.Bytes) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "overlay."+s.Driver.Ext())
	if err := s.Driver.Create(t.Context(), base, path, size); err != nil {
		t.Fatal(err)
	}
	return path
}

func (s Subject) attach(t *testing.T, base disk.Base, path string) disk.Attached {
	t.Helper()
	a, err := s.Driver.Attach(t.Context(), base, path)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (s Subject) holds(t *testing.T, a disk.Attached, at int64, want []byte) {
	t.Helper()
	if got := s.Read(t, a, at, len(want)); !bytes.Equal(got, want) {
		t.Errorf("at %d is %.16q…, want %.16q…", at, got, want)
	}
}

func testOverlay(t *testing.T, s Subject) {
	base := newBase(t)
	a := s.attach(t, base, s.overlay(t, base, 3*banger.GiB))
	if got := s.Size(t, a); got != 3*banger.GiB {
		t.Errorf("it is %s large", got)
	}
	s.holds(t, a, 0, block("base"))
	s.Write(t, a, 0, block("mine"))
	s.Write(t, a, int64(2*banger.GiB), block("mine"))
	s.holds(t, a, 0, block("mine"))
	s.holds(t, a, int64(2*banger.GiB), block("mine"))
	if content, err := os.ReadFile(base.Path); err != nil || !bytes.Equal(content[:4096], block("base")) {
		t.Errorf("a write to the overlay reached the base: %v", err)
	}
}

func testReplaced(t *testing.T, s Subject) {
	base := newBase(t)
	path := s.overlay(t, base, banger.GiB)
	s.Write(t, s.attach(t, base, path), 0, block("mine"))
	if err := s.Driver.Create(t.Context(), base, path, banger.GiB); err != nil {
		t.Fatal(err)
	}
	s.holds(t, s.attach(t, base, path), 0, block("base"))
}

func testTooSmall(t *testing.T, s Subject) {
	path := filepath.Join(t.TempDir(), "overlay")
	err := s.Driver.Create(t.Context(), newBase(t), path, banger.GiB/2)
	if banger.KindOf(err) != banger.KindInvalid {
		t.Errorf("%v", err)
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 0 {
		t.Errorf("a refused create left %v", left)
	}
}

// testGrown grows an overlay again and again, to the largest there is.
func testGrown(t *testing.T, s Subject) {
	base := newBase(t)
	path := s.overlay(t, base, banger.GiB)
	a := s.attach(t, base, path)
	s.Write(t, a, 4096, block("mine"))
	for _, size := range []banger.Bytes{banger.GiB + banger.MiB, 20 * banger.GiB, 3 * banger.TiB, banger.MaxDisk} {
		if err := s.Driver.Grow(t.Context(), path, size); err != nil {
			t.Fatalf("to %s: %v", size, err)
		}
		if err := s.Driver.Grow(t.Context(), path, size); err != nil {
			t.Errorf("to %s again: %v", size, err)
		}
		a = s.attach(t, base, path)
		if got := s.Size(t, a); got != size {
			t.Errorf("it is %s large, not %s", got, size)
		}
		last := int64(size) - 4096
		s.holds(t, a, last, make([]byte, 4096))
		s.Write(t, a, last, block("last"))
		s.holds(t, a, last, block("last"))
	}
	s.holds(t, a, 0, block("base"))
	s.holds(t, a, 4096, block("mine"))
	s.holds(t, a, int64(20*banger.GiB)-4096, block("last"))
}

// testFlattened compares every byte near what was written with what a VMM reads.
func testFlattened(t *testing.T, s Subject) {
	base := newBase(t)
	path := s.overlay(t, base, 3*banger.GiB)
	a := s.attach(t, base, path)
	places := []int64{0, 8192, 1 << 20, 1<<20 + 128<<10 - 4096, int64(banger.GiB) - 4096, int64(2 * banger.GiB), int64(3*banger.GiB) - 4096}
	for _, at := range places[1:] {
		s.Write(t, a, at, block("mine"))
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "flat"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if err := errors.Join(f.Truncate(int64(3*banger.GiB)), s.Driver.Flatten(t.Context(), base, path, f)); err != nil {
		t.Fatal(err)
	}
	for _, at := range places {
		for _, near := range []int64{at - 4096, at, at + 4096} {
			if near < 0 || near >= int64(3*banger.GiB) {
				continue
			}
			got := make([]byte, 4096)
			if _, err := f.ReadAt(got, near); err != nil {
				t.Fatal(err)
			}
			s.holds(t, a, near, got)
		}
	}
	st, err := f.Stat()
	if err != nil || st.Size() != int64(3*banger.GiB) || st.Sys().(*syscall.Stat_t).Blocks > 4<<20/512 {
		t.Errorf("it takes more than what was written: %+v, %v", st, err)
	}
}

func testGrownToLess(t *testing.T, s Subject) {
	base := newBase(t)
	path := s.overlay(t, base, 3*banger.GiB)
	if err := s.Driver.Grow(t.Context(), path, 2*banger.GiB); err != nil {
		t.Error(err)
	}
	if got := s.Size(t, s.attach(t, base, path)); got != 3*banger.GiB {
		t.Errorf("it has shrunk to %s", got)
	}
}

func testGrownButGone(t *testing.T, s Subject) {
	path := filepath.Join(t.TempDir(), "overlay")
	if err := s.Driver.Grow(t.Context(), path, banger.GiB); err == nil {
		t.Error("an overlay that is not there was grown")
	}
}

func testRemoved(t *testing.T, s Subject) {
	path := s.overlay(t, newBase(t), banger.GiB)
	for range 2 {
		if err := s.Driver.Remove(path); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("it is still there: %v", err)
	}
}
