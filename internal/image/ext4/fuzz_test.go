package ext4_test

import (
	"archive/tar"
	"bytes"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"banger.dev/banger"
	"banger.dev/banger/internal/image/ext4"
	"banger.dev/banger/internal/image/layer"
)

// FuzzFromTar gives any tar to the writer: what it does not refuse, e2fsck finds
// nothing wrong with.
func FuzzFromTar(f *testing.F) {
	seed, err := io.ReadAll(archive(&testing.T{},
		member{Header: tar.Header{Name: "d/f", Mode: 0o644, PAXRecords: map[string]string{"SCHILY.xattr.user.x": "y"}}, content: strings.Repeat("x", 5000)},
		member{Header: tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: strings.Repeat("t", 70)}},
		member{Header: tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "d/f"}}))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, p []byte) {
		need(t, "mke2fs", "e2fsck")
		path := filepath.Join(t.TempDir(), "x.ext4")
		limits := layer.Limits{Entries: 1000, Size: 4 * banger.MiB}
		if _, err := ext4.FromTar(t.Context(), path, bytes.NewReader(p), limits, ext4.Options{Size: 32 * banger.MiB}); err == nil {
			run(t, "e2fsck", "-fn", path)
		} else if banger.KindOf(err) == banger.KindInternal {
			t.Error(err)
		}
	})
}
