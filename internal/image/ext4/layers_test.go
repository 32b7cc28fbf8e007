package ext4_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sys/unix"

	"banger.dev/banger"
	"banger.dev/banger/internal/image/ext4"
	"banger.dev/banger/internal/image/layer"
)

// tarLayer is a layer in memory.
type tarLayer []byte

func (l tarLayer) Open() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(l)), nil }

// odd are layers with all that is odd in images of the world.
func odd(t *testing.T) []tarLayer {
	random := rand.NewChaCha8([32]byte{})
	noise := func(n int) string {
		p := make([]byte, n)
		_, _ = random.Read(p)
		return string(p)
	}
	dir := func(name string) member {
		return member{Header: tar.Header{Name: name + "/", Typeflag: tar.TypeDir, Mode: 0o755}}
	}
	file := func(name, content string) member {
		return member{Header: tar.Header{Name: name, Mode: 0o644}, content: content}
	}
	link := func(kind byte, name, to string) member {
		return member{Header: tar.Header{Name: name, Typeflag: kind, Linkname: to, Mode: 0o777}}
	}
	with := func(m member, change func(*tar.Header)) member {
		change(&m.Header)
		return m
	}
	xattrs := func(m member, pairs ...string) member {
		m.PAXRecords = map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			m.PAXRecords["SCHILY.xattr."+pairs[i]] = pairs[i+1]
		}
		return m
	}
	acl := "\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff\x02\x00\x04\x00\xe8\x03\x00\x00\x04\x00\x04\x00\xff\xff\xff\xff\x10\x00\x04\x00\xff\xff\xff\xff\x20\x00\x00\x00\xff\xff\xff\xff"
	low := []member{
		with(dir("."), func(h *tar.Header) { h.Mode = 0o711 }),
		dir("bin"), file("bin/busybox", noise(300_000)), link(tar.TypeLink, "bin/sh", "bin/busybox"), link(tar.TypeSymlink, "bin/ash", "/bin/busybox"),
		link(tar.TypeSymlink, "lib", "usr/lib"), file("usr/lib/before", "through implied directories"),
		dir("gone"), file("gone/a", "a"), dir("gone/deep"), file("gone/deep/b", "b"),
		dir("opaque"), file("opaque/low", "low"), dir("opaque/sub"), file("opaque/sub/low", "low"), file("opaque/both", "low"),
		file("whiteout-first", "low"), file("linked-then-removed", "kept by its other name"),
		dir("dir-to-file"), file("dir-to-file/x", "x"), file("file-to-dir", "f"), link(tar.TypeSymlink, "link-to-dir", "bin"), dir("dir-to-link"), file("dir-to-link/x", "x"),
		with(file("owned", "o"), func(h *tar.Header) { h.Uid, h.Gid, h.Mode = 70000, 4_000_000_000, 0o6751 }),
		with(file("future", ""), func(h *tar.Header) { h.ModTime = time.Unix(5_000_000_000, 123_456_789) }),
		with(file("past", ""), func(h *tar.Header) { h.ModTime = time.Unix(-1_000_000_000, 0) }),
		xattrs(file("ping", "ping"), "security.capability", netRaw(), "user.note", "kept"),
		xattrs(file("many", "m"), "user.big", strings.Repeat("v", 2000), "user.b", "1", "user.aa", "2", "trusted.x", "tt", "security.other", "s"),
		xattrs(with(file("acl", "a"), func(h *tar.Header) { h.Mode = 0o640 }), "system.posix_acl_access", acl),
		xattrs(dir("acldir"), "system.posix_acl_default", acl),
		with(file("null", ""), func(h *tar.Header) { h.Typeflag, h.Devmajor, h.Devminor = tar.TypeChar, 1, 3 }),
		with(file("disk", ""), func(h *tar.Header) { h.Typeflag, h.Devmajor, h.Devminor = tar.TypeBlock, 259, 70000 }),
		with(file("fifo", ""), func(h *tar.Header) { h.Typeflag = tar.TypeFifo }),
		file(strings.Repeat("long-directory/", 60)+strings.Repeat("n", 255), "far down"),
		link(tar.TypeSymlink, "long-link", strings.Repeat("target/", 100)), link(tar.TypeSymlink, "link59", strings.Repeat("x", 59)), link(tar.TypeSymlink, "link60", strings.Repeat("x", 60)),
		file("zeros", strings.Repeat("\x00", 1<<20)), file("holes", noise(5000)+strings.Repeat("\x00", 300_000)+noise(70_000)+strings.Repeat("\x00", 200_000)),
		file("twice", "first"), file("twice", "second"), file("wh\xff\xfe bytes\n", "not UTF-8"),
	}
	for i := range 20 { // 20 extents of one file
		low = append(low, file("pieces-"+fmt.Sprint(i), strings.Repeat(noise(1<<16)+strings.Repeat("\x00", 1<<17), i)))
	}
	low = append(low, dir("wide"))
	for i := range 6000 {
		low = append(low, file(fmt.Sprintf("wide/%d-ü-%s", i, strings.Repeat("w", i%180)), ""))
	}
	middle := []member{
		file(".wh.whiteout-first", ""), file("whiteout-first", "middle"), file("whiteout-last", "stays"), file(".wh.whiteout-last", ""),
		file(".wh.gone", ""), file("gone/new", "new"),
		dir("opaque"), file("opaque/both", "middle"), file("opaque/.wh..wh..opq", ""), file("opaque/after", "after"),
		link(tar.TypeLink, "kept", "linked-then-removed"), link(tar.TypeLink, "bin/also-sh", "/bin/sh"),
		file("dir-to-file", "file now"), dir("file-to-dir"), file("file-to-dir/y", "y"), dir("link-to-dir"), file("link-to-dir/z", "z"), link(tar.TypeSymlink, "dir-to-link", "bin"),
		file("lib/through-link", "lands in usr/lib"), file("/absolute", "lands inside"),
		with(dir("acldir"), func(h *tar.Header) { h.Mode = 0o700 }),
	}
	top := []member{
		file(".wh.linked-then-removed", ""), file(".wh.never-there", ""), file("no/such/.wh.dir", ""), file("wide/.wh.17-ü-"+strings.Repeat("w", 17), ""),
		with(file("bin/busybox", "replaced, while sh stays"), func(h *tar.Header) { h.Mode = 0o755 }),
	}
	var list []tarLayer
	for _, members := range [][]member{low, middle, top} {
		p, err := io.ReadAll(archive(t, members...))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	return list
}

// TestLayersAreWhatUmociUnpacks compares the file system, mounted by the host's
// kernel, with what a tool of others makes of the same image.
func TestLayersAreWhatUmociUnpacks(t *testing.T) {
	need(t, "mke2fs", "e2fsck", "umoci")
	if !inOwnMounts(t) {
		return
	}
	layers := odd(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "root.ext4")
	if _, err := ext4.FromLayers(t.Context(), path, stack(layers), layer.DefaultLimits(), ext4.Options{Size: 4 * banger.GiB}); err != nil {
		t.Fatal(err)
	}
	run(t, "e2fsck", "-fn", path)
	want := fingerprint(t, filepath.Join(unpack(t, dir, layers), "rootfs"))
	mount(t, path, filepath.Join(dir, "mnt"), "loop,ro")
	got := fingerprint(t, filepath.Join(dir, "mnt"))
	delete(got, "lost+found")
	if len(want) < 6000 {
		t.Errorf("umoci unpacked %d files", len(want))
	}
	for _, name := range slices.Sorted(mapKeys(want, got)) {
		if want[name] != got[name] {
			t.Errorf("%.80q is\n  %s, not\n  %s", name, got[name], want[name])
		}
	}
}

func stack(layers []tarLayer) (list []ext4.Layer) {
	for _, l := range layers {
		list = append(list, l)
	}
	return list
}

func mapKeys(maps ...map[string]string) func(func(string) bool) {
	all := map[string]bool{}
	for _, m := range maps {
		for k := range m {
			all[k] = true
		}
	}
	return func(yield func(string) bool) {
		for k := range all {
			if !yield(k) {
				return
			}
		}
	}
}

// unpack has umoci unpack the layers, and gives its bundle.
func unpack(t *testing.T, dir string, layers []tarLayer) string {
	t.Helper()
	img, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: "amd64", RootFS: v1.RootFS{Type: "layers"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		made, err := tarball.LayerFromOpener(l.Open, tarball.WithMediaType(types.OCILayer))
		if err == nil {
			img, err = mutate.AppendLayers(img, made)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	img = mutate.MediaType(mutate.ConfigMediaType(img, types.OCIConfigJSON), types.OCIManifestSchema1)
	p, err := layout.Write(filepath.Join(dir, "layout"), empty.Index)
	if err == nil {
		err = p.AppendImage(img, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "odd"}))
	}
	if err != nil {
		t.Fatal(err)
	}
	bundle := filepath.Join(dir, "bundle")
	if out, err := exec.Command("umoci", "unpack", "--image", filepath.Join(dir, "layout")+":odd", bundle).CombinedOutput(); err != nil {
		t.Fatalf("umoci: %v\n%s", err, out)
	}
	return bundle
}

func mount(t *testing.T, device, at, options string) {
	t.Helper()
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-t", "ext4", "-o", options, device, at).CombinedOutput(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("mount: %v\n%s", err, out)
		}
		t.Skipf("this host mounts nothing: %s", out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", at).CombinedOutput(); err != nil {
			t.Errorf("umount: %v\n%s", err, out)
		}
	})
}

// fingerprint says of every file below root all that an image keeps of it.
func fingerprint(t *testing.T, root string) map[string]string {
	t.Helper()
	all, first := map[string]string{}, map[uint64]string{}
	implied := []string{"usr", "usr/lib", "gone", "no", "no/such"} // made when they were missing, at no time in particular
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(root, path)
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		said := fmt.Sprintf("%o %d:%d links %d", st.Mode, st.Uid, st.Gid, st.Nlink)
		if name == "." { // lost+found is in one of them, and umoci touches it
			said = fmt.Sprintf("%o %d:%d", st.Mode, st.Uid, st.Gid)
		} else if !slices.Contains(implied, name) && !strings.HasPrefix(name, "long-directory") {
			said += fmt.Sprintf(" time %d.%09d", st.Mtim.Sec, st.Mtim.Nsec)
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			sum := sha256.Sum256(content)
			said += fmt.Sprintf(" size %d %s", st.Size, hex.EncodeToString(sum[:8]))
		case unix.S_IFLNK:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			said += " to " + target
		case unix.S_IFCHR, unix.S_IFBLK:
			said += fmt.Sprintf(" device %d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
		}
		if st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			if first[st.Ino] == "" {
				first[st.Ino] = name
			}
			said += " same as " + first[st.Ino]
		}
		all[name] = said + attributes(t, path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func attributes(t *testing.T, path string) string {
	t.Helper()
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buf)
	if err != nil {
		t.Fatal(path, err)
	}
	var list []string
	for name := range strings.SplitSeq(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
		value := make([]byte, 64<<10)
		if name == "" {
			continue
		}
		size, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			t.Fatal(path, name, err)
		}
		list = append(list, fmt.Sprintf(" %s=%q", name, value[:size]))
	}
	slices.Sort(list)
	return strings.Join(list, "")
}

// TestKernelFillsIt mounts a file system, changes and fills it, and looks at it
// again. That it grows while it is mounted, a story in e2e shows.
func TestKernelFillsIt(t *testing.T) {
	need(t, "mke2fs", "e2fsck")
	if !inOwnMounts(t) {
		return
	}
	dir := t.TempDir()
	path, mnt := filepath.Join(dir, "root.ext4"), filepath.Join(dir, "mnt")
	if _, err := ext4.FromLayers(t.Context(), path, stack(odd(t)), layer.DefaultLimits(), ext4.Options{Size: 256 * banger.MiB}); err != nil {
		t.Fatal(err)
	}
	t.Run("mounted", func(t *testing.T) {
		mount(t, path, mnt, "loop,noinit_itable")
		before := fingerprint(t, mnt)
		if err := os.Remove(filepath.Join(mnt, "wide", "0-ü-")); err != nil {
			t.Error(err)
		}
		for i := range 3000 { // leaves and index of a full hash tree are split
			if err := os.WriteFile(filepath.Join(mnt, "wide", fmt.Sprintf("more-%d-%s", i, strings.Repeat("m", 150))), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		fillUp(t, filepath.Join(mnt, "full"))
		after := fingerprint(t, mnt)
		for name, said := range before {
			if after[name] != said && name != "wide" && name != "wide/0-ü-" && name != "." {
				t.Errorf("%q was\n  %s, is\n  %s", name, said, after[name])
			}
		}
	})
	run(t, "e2fsck", "-fn", path)
}

// inOwnMounts runs the test again in a mount namespace of its own, where nobody
// else can hold on to what it mounts, and tells whether this is that run.
func inOwnMounts(t *testing.T) bool {
	t.Helper()
	const variable = "BANGER_TEST_MOUNTS"
	if os.Getuid() != 0 {
		t.Skip("only root makes files of every owner, and mounts")
	}
	if os.Getenv(variable) != "" {
		return true
	}
	need(t, "unshare", "mount", "umount")
	cmd := exec.Command("unshare", "--mount", os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), variable+"=own")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

// fillUp writes to a file until its file system is full.
func fillUp(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for p := bytes.Repeat([]byte("full"), 256<<10); ; {
		if _, err := f.Write(p); errors.Is(err, unix.ENOSPC) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// TestManyFiles has a directory whose index takes two levels, and sees that
// TestManyFiles has a directory whose index takes two levels.
func TestManyFiles(t *testing.T) {
	need(t, "mke2fs", "e2fsck")
	const wide, all = 12_000, 60_000
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for i := range all {
		h := &tar.Header{Name: fmt.Sprintf("d%d/s%d/small-file-%d", i%7, i%100, i), Mode: 0o644, Size: 100, Typeflag: tar.TypeReg}
		if i < wide {
			h.Name = fmt.Sprintf("wide/%0200d", i)
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(bytes.Repeat([]byte{'x'}, 100)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "root.ext4")
	if _, err := ext4.FromLayers(t.Context(), path, stack([]tarLayer{buf.Bytes()}), layer.DefaultLimits(), ext4.Options{Size: 2 * banger.GiB}); err != nil {
		t.Fatal(err)
	}
	run(t, "e2fsck", "-fn", path)
	if got := run(t, "debugfs", "-R", "htree_dump /wide", path); !strings.Contains(got, "Indirect levels: 1") {
		t.Errorf("%.500s", got)
	}
}
