package image_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"banger.dev/banger"
	"banger.dev/banger/internal/agent/archive"
	"banger.dev/banger/internal/image"
	"banger.dev/banger/internal/image/ext4"
	"banger.dev/banger/internal/image/layer"
	"banger.dev/banger/internal/paths"
	"banger.dev/banger/internal/userns"
)

// made is a file system of this size with a file in it, as mke2fs makes it.
func made(t *testing.T, size string, options ...string) string {
	t.Helper()
	needStore(t)
	need(t, "mke2fs", "e2fsck")
	root, path := t.TempDir(), filepath.Join(t.TempDir(), "fs")
	if err := errors.Join(os.Mkdir(filepath.Join(root, "sbin"), 0o755), os.WriteFile(filepath.Join(root, "sbin/init"), []byte("one"), 0o755)); err != nil {
		t.Fatal(err)
	}
	mke2fs, _ := userns.Find("mke2fs", "e2fsprogs")
	args := append([]string{"-q", "-F", "-t", "ext4", "-d", root}, options...)
	if out, err := exec.Command(mke2fs, append(args, path, size)...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}

// packed is the tar that a client sends of a file.
func packed(t *testing.T, path string) io.Reader {
	t.Helper()
	dir, err := archive.OpenDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dir.Close() }()
	var buf bytes.Buffer
	p := archive.NewPacker(&buf)
	if err := errors.Join(p.AddOne(dir, filepath.Base(path), "rootfs.ext4"), p.Close()); err != nil {
		t.Fatal(err)
	}
	return &buf
}

func allocated(t *testing.T, path string) int64 {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return st.Sys().(*syscall.Stat_t).Blocks * 512
}

func TestRegister(t *testing.T) {
	path := made(t, "3G")
	layout := paths.Layout{Cache: t.TempDir()}
	store := image.New(layout, nil)
	sent := packed(t, path)
	if n := sent.(*bytes.Buffer).Len(); int64(n) > allocated(t, path)+1<<20 {
		t.Errorf("%d bytes are sent of a file that has %d", n, allocated(t, path))
	}
	img, err := store.Register(t.Context(), "mine", sent, nil)
	if err != nil {
		t.Fatal(err)
	}
	if img.Name != "mine" || img.Size != 3*banger.GiB || img.Init != "/sbin/init" || img.Source != "ext4" {
		t.Errorf("%+v", img)
	}
	if got, is := allocated(t, img.RootFS), allocated(t, path); got > is+1<<20 {
		t.Errorf("it takes %d bytes, and the file %d", got, is)
	}
	if got := debugfs(t, img.RootFS, "cat /sbin/init"); got != "one" {
		t.Errorf("the image holds %q", got)
	}
	// The same without its holes is the same image, and kept once.
	dense := filepath.Join(t.TempDir(), "dense")
	if out, err := exec.Command("cp", "--sparse=never", made(t, "64M", "-U", "clear", "-E", "hash_seed=00000000-0000-0000-0000-000000000001"), dense).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	sparse := filepath.Join(t.TempDir(), "sparse")
	if out, err := exec.Command("cp", "--sparse=always", dense, sparse).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var digests []string
	for name, path := range map[string]string{"a": dense, "b": sparse} {
		img, err := store.Register(t.Context(), name, packed(t, path), nil)
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, img.Digest)
	}
	if digests[0] != digests[1] {
		t.Errorf("digests %q", digests)
	}
	if all, err := store.Entries(t.Context()); err != nil || len(all) != 2 {
		t.Errorf("%+v, %v", all, err)
	}
	nothingHalfMade(t, layout)
}

func TestRegisterRefuses(t *testing.T) {
	cut := made(t, "64M")
	if err := os.Truncate(cut, 32<<20); err != nil {
		t.Fatal(err)
	}
	damaged := made(t, "64M", "-O", "^metadata_csum")
	f, err := os.OpenFile(damaged, os.O_RDWR, 0)
	if err == nil {
		_, err = f.WriteAt(bytes.Repeat([]byte{0xff}, 64<<10), 4096*2)
		err = errors.Join(err, f.Close())
	}
	text := filepath.Join(t.TempDir(), "text")
	if err := errors.Join(err, os.WriteFile(text, []byte(strings.Repeat("text", 1000)), 0o600)); err != nil {
		t.Fatal(err)
	}
	dense := filepath.Join(t.TempDir(), "dense")
	if err := os.WriteFile(dense, []byte(noise(2<<20)), 0o600); err != nil {
		t.Fatal(err)
	}
	other := func(name string, kind byte) io.Reader {
		var buf bytes.Buffer
		w := tar.NewWriter(&buf)
		if err := errors.Join(w.WriteHeader(&tar.Header{Name: name, Typeflag: kind, Linkname: "/etc/passwd"}), w.Close()); err != nil {
			t.Fatal(err)
		}
		return &buf
	}
	for what, test := range map[string]struct {
		file io.Reader
		want string
	}{
		"text":      {packed(t, text), "no ext4 file system"},
		"ext2":      {packed(t, made(t, "64M", "-O", "^extents,^64bit,^has_journal")), "an ext2 or ext3"},
		"cut off":   {packed(t, cut), "cut off"},
		"damaged":   {packed(t, damaged), "damaged"},
		"nothing":   {strings.NewReader(""), "no file came"},
		"no tar":    {strings.NewReader(strings.Repeat("nonsense", 200)), "receive the file"},
		"a link":    {other("rootfs.ext4", tar.TypeSymlink), "must be a file"},
		"elsewhere": {other("../rootfs.ext4", tar.TypeReg), ""},
		"another":   {other("manifest.json", tar.TypeReg), "must be a file"},
		"too much":  {packed(t, dense), "more data than images.max_size"},
	} {
		t.Run(what, func(t *testing.T) {
			layout := paths.Layout{Cache: t.TempDir()}
			store := image.New(layout, func() image.Settings {
				return image.Settings{Limits: layer.Limits{Entries: 1, Size: banger.MiB}}
			})
			_, err := store.Register(t.Context(), "x", test.file, nil)
			if banger.KindOf(err) != banger.KindInvalid || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v", err)
			}
			if list, err := store.List(t.Context()); err != nil || len(list) != 0 {
				t.Errorf("%v, %v", list, err)
			}
			nothingHalfMade(t, layout)
		})
	}
}

// A disk whose kernel was killed is at rest in its image, which is the same each
// time.
func TestCommit(t *testing.T) {
	path := made(t, "64M")
	debug, _ := userns.Find("debugfs", "e2fsprogs")
	if out, err := exec.Command(debug, "-w", "-R", "feature needs_recovery", path).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	layout := paths.Layout{Cache: t.TempDir()}
	store := image.New(layout, nil)
	below := banger.Image{Env: []string{"A=b"}, User: "ada", Workdir: "/srv", Entrypoint: []string{"/e"}, Cmd: []string{"c"}}
	write := func(_ context.Context, w io.WriterAt) error {
		content, err := os.ReadFile(path)
		if err == nil {
			_, err = w.WriteAt(content, 0)
		}
		return err
	}
	var digests []string
	for _, vm := range []string{"a", "b"} {
		img, err := store.Commit(t.Context(), vm, below, 2*banger.GiB, write, nil)
		if err != nil {
			t.Fatal(err)
		}
		if img.Size != 64*banger.MiB || img.User != "ada" || img.Workdir != "/srv" || len(img.Env) != 1 || len(img.Entrypoint) != 1 || len(img.Cmd) != 1 || img.Init != "/sbin/init" {
			t.Errorf("%+v", img)
		}
		fsck, _ := userns.Find("e2fsck", "e2fsprogs")
		if out, err := exec.Command(fsck, "-fn", img.RootFS).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		digests = append(digests, img.Digest)
	}
	if digests[0] != digests[1] {
		t.Errorf("digests %q", digests)
	}
	if err := errors.Join(store.Name("mine", digests[0]), store.Name("yours", digests[0])); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"mine", "yours"} {
		if img, err := store.Resolve(t.Context(), name, nil); err != nil || img.Digest != digests[0] {
			t.Errorf("%+v, %v", img, err)
		}
	}
	if err := store.Name("gone", "sha256:"+strings.Repeat("0", 64)); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if _, err := store.Commit(t.Context(), "a", below, banger.GiB, func(context.Context, io.WriterAt) error { return io.ErrUnexpectedEOF }, nil); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
	nothingHalfMade(t, layout)
}

func TestMeasureStopsAtWhatIsThere(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if _, err := ext4.Measure(f); banger.KindOf(err) != banger.KindInvalid {
		t.Errorf("of an empty file: %v", err)
	}
}
