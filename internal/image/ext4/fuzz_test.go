package ext4_test

import (
	"archive/tar"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"banger.dev/banger"
	"banger.dev/banger/internal/image/ext4"
	"banger.dev/banger/internal/image/layer"
)

// FuzzFromLayers gives layers with any members to the writer: of what it does not
// refuse, e2fsck finds nothing wrong.
func FuzzFromLayers(f *testing.F) {
	f.Add([]byte("\x01\x05\x00\x03\x05\x00\x40\x11\x09\x02\x10\x00\xff\x00\x00\x00\x06\x00\x00\x00\x0a\x01\x00\x01"))
	f.Add([]byte("\x03\x00\xff\xff\x08\x04\x00\x00\x07\x02\x00\x00\x0b\x00\x20\x02\xff\x00\x00\x00\x03\x05\x00\x00"))
	f.Fuzz(func(t *testing.T, p []byte) {
		need(t, "mke2fs", "e2fsck")
		path := filepath.Join(t.TempDir(), "x.ext4")
		limits := layer.Limits{Entries: 1000, Size: 16 * banger.MiB}
		if _, err := ext4.FromLayers(t.Context(), path, stack(layersOf(t, p)), limits, ext4.Options{Size: 32 * banger.MiB}); err == nil {
			run(t, "e2fsck", "-fn", path)
		} else if banger.KindOf(err) != banger.KindInvalid {
			t.Error(err)
		}
	})
}

// layersOf has four bytes say what each member is like; 255 ends a layer.
func layersOf(t *testing.T, p []byte) (layers []tarLayer) {
	var members []member
	end := func() {
		all, err := io.ReadAll(archive(t, members...))
		if err != nil {
			t.Fatal(err)
		}
		layers, members = append(layers, all), nil
	}
	for ; len(p) >= 4; p = p[4:] {
		if p[0] == 255 {
			end()
			continue
		}
		members = append(members, memberOf(p[0], p[1], p[2], p[3]))
	}
	end()
	return layers
}

func memberOf(name, kind, size, more byte) member {
	names := []string{"./", "a", "b", "d/", "d/a", "d/b", "d/.wh.a", "d/.wh..wh..opq", "d/e/f", ".wh.b", ".wh.d", "l/x", "../up", "/abs",
		strings.Repeat("n", 255), strings.Repeat("deep/", 40), "d/" + strings.Repeat("w", int(more)+1), "lost+found", "lost+found/x"}
	kinds := []byte{tar.TypeReg, tar.TypeLink, tar.TypeSymlink, tar.TypeChar, tar.TypeBlock, tar.TypeDir, tar.TypeFifo}
	m := member{Header: tar.Header{
		Name: names[int(name)%len(names)], Typeflag: kinds[int(kind)%len(kinds)], Mode: int64(more) << 4,
		Uid: int(size) << 20, Devmajor: int64(more), Devminor: int64(size) << 8,
	}}
	if m.Typeflag != tar.TypeDir {
		m.Name = strings.TrimSuffix(m.Name, "/")
	}
	switch m.Typeflag {
	case tar.TypeReg: // data and holes, also at either end
		m.content = strings.Repeat(strings.Repeat("x", int(size)<<5)+strings.Repeat("\x00", int(more)<<8), int(size%4))
	case tar.TypeLink:
		m.Linkname = names[int(size)%len(names)]
	case tar.TypeSymlink:
		m.Linkname = strings.Repeat("t", int(size)+1)
	}
	if more%3 == 0 {
		m.PAXRecords = map[string]string{"SCHILY.xattr.user." + strings.Repeat("k", int(size)): strings.Repeat("v", int(more)<<4)}
	}
	return m
}
