package qcow2

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"banger.dev/banger"
	"banger.dev/banger/internal/disk"
)

// used is an overlay with one L2 table and one cluster of data, as QEMU leaves it.
func used(t *testing.T) (path string, content []byte) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "system.qcow2")
	if err := (Driver{}).Create(t.Context(), disk.Base{Path: "/base", Size: banger.GiB}, path, 4*banger.GiB); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const l2At, dataAt, copied = 4 * clusterSize, 5 * clusterSize, 1 << 63
	content = append(content, make([]byte, dataAt+4096-len(content))...) // the last cluster need not be whole
	binary.BigEndian.PutUint64(content[3*clusterSize:], l2At|copied)
	binary.BigEndian.PutUint64(content[l2At:], dataAt|copied)
	return path, content
}

func TestDamagedOverlaysAreRefused(t *testing.T) {
	flip := func(at int, bit byte) func([]byte) []byte {
		return func(b []byte) []byte { b[at] ^= bit; return b }
	}
	cut := func(to int) func([]byte) []byte { return func(b []byte) []byte { return b[:to] } }
	for name, c := range map[string]struct {
		damage func([]byte) []byte
		fine   bool
	}{
		"nothing":                    {func(b []byte) []byte { return b }, true},
		"empty":                      {cut(0), false},
		"cut in its header":          {cut(60), false},
		"cut in its refcounts":       {cut(clusterSize), false},
		"cut in its tables":          {cut(4*clusterSize + 100), false},
		"cut before its data":        {cut(5 * clusterSize), false},
		"the magic":                  {flip(0, 1), false},
		"the version":                {flip(7, 1), false},
		"the size of clusters":       {flip(23, 1), false},
		"where the table is":         {flip(46, 2), false},
		"marked by QEMU":             {flip(79, incompatCorrupt), false},
		"an unknown feature":         {flip(72, 1), false},
		"an entry of the first":      {flip(3*clusterSize+3, 1), false},
		"an entry of the second":     {flip(4*clusterSize+3, 1), false},
		"an entry that is unaligned": {flip(4*clusterSize+6, 2), false},
	} {
		t.Run(name, func(t *testing.T) {
			path, content := used(t)
			if err := os.WriteFile(path, c.damage(content), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Driver{}.Attach(t.Context(), disk.Base{Path: "/base"}, path)
			if (err == nil) != c.fine || err != nil && !errors.Is(err, disk.ErrDamaged) {
				t.Error(err)
			}
		})
	}
}

func TestAnOverlayThatIsGoneIsNotDamaged(t *testing.T) {
	if _, err := (Driver{}).Attach(t.Context(), disk.Base{}, filepath.Join(t.TempDir(), "x")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func FuzzCheck(f *testing.F) {
	f.Add([]byte("QFI\xfb"))
	f.Fuzz(func(t *testing.T, content []byte) {
		path := filepath.Join(t.TempDir(), "x")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := check(path); err == nil && len(content) < clusterSize {
			t.Error("it is taken for whole")
		}
	})
}
