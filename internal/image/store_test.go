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
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"banger.dev/banger"
	"banger.dev/banger/internal/image"
	"banger.dev/banger/internal/image/layer"
	"banger.dev/banger/internal/paths"
	"banger.dev/banger/internal/userns"
)

// root is a small tar whose one file holds content.
func root(t *testing.T, content string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := w.WriteHeader(&tar.Header{Name: "sbin/init", Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(content))}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// stub is a builder that writes a tar it was given.
type stub struct {
	key    string
	tar    []byte
	err    error         // returned after half of the tar
	before func()        // called when the build begins, may be nil
	builds *atomic.Int32 // may be nil
}

func (s stub) Key() string    { return s.key }
func (s stub) Source() string { return "a test" }

func (s stub) Build(_ context.Context, tmp string, w io.Writer, report banger.ProgressFunc) error {
	if s.builds != nil {
		s.builds.Add(1)
	}
	if s.before != nil {
		s.before()
	}
	if err := os.WriteFile(filepath.Join(tmp, "scratch"), nil, 0o600); err != nil {
		return err
	}
	if s.err != nil {
		_, _ = w.Write(s.tar[:len(s.tar)/2])
		return s.err
	}
	_, err := w.Write(s.tar)
	return err
}

func needStore(t *testing.T) {
	t.Helper()
	need(t, "mke2fs", "tar", "debugfs")
	if err := userns.Check(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

// catalog has one entry, stub.
func catalog(b image.Builder) func() image.Settings {
	return func() image.Settings {
		entry := image.Entry{CatalogEntry: banger.CatalogEntry{Name: "stub", Kernel: "its own"}, Builder: b}
		return image.Settings{Limits: layer.DefaultLimits(), Catalog: map[string]image.Entry{"stub": entry}}
	}
}

// nothingHalfMade fails if a maker left something.
func nothingHalfMade(t *testing.T, layout paths.Layout) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(layout.Images(), "tmp"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		t.Errorf("%s is left", e.Name())
	}
}

func TestResolveBuildsOnceForAll(t *testing.T) {
	needStore(t)
	layout := paths.Layout{Cache: t.TempDir()}
	var builds atomic.Int32
	waiting := make(chan struct{})
	b := stub{key: "1", tar: root(t, "one"), builds: &builds, before: func() { <-waiting }}
	var waiters sync.Once
	report := func(p banger.Progress) {
		if p.Stage == "image" && p.Message == "waiting for another pull of stub" {
			waiters.Do(func() { close(waiting) })
		}
	}
	digests := make([]string, 4)
	var group sync.WaitGroup
	for i := range digests {
		group.Go(func() {
			img, err := image.New(layout, catalog(b)).Resolve(t.Context(), "stub", report)
			if err != nil {
				t.Error(err)
			}
			digests[i] = img.Digest
		})
	}
	group.Wait()
	for _, d := range digests {
		if d != digests[0] || !strings.HasPrefix(d, "sha256:") {
			t.Errorf("digests %q", digests)
		}
	}
	if n := builds.Load(); n != 1 {
		t.Errorf("built %d times", n)
	}
	nothingHalfMade(t, layout)
}

func TestResolveFinds(t *testing.T) {
	needStore(t)
	layout := paths.Layout{Cache: t.TempDir()}
	var builds atomic.Int32
	store := image.New(layout, catalog(stub{key: "1", tar: root(t, "one"), builds: &builds}))
	img, err := store.Resolve(t.Context(), "stub", nil)
	if err != nil {
		t.Fatal(err)
	}
	if entries, err := store.Catalog(t.Context()); err != nil || len(entries) != 1 || entries[0].Image == nil || entries[0].Image.Digest != img.Digest {
		t.Errorf("%+v, %v", entries, err)
	}
	if img.Kernel != "its own" || img.Name != "stub" || img.Source != "a test" || img.Init != "/sbin/init" || img.Size != banger.DefaultDisk {
		t.Errorf("%+v", img)
	}
	if st, err := os.Stat(img.RootFS); err != nil || st.Mode() != 0o644 || st.Size() != int64(banger.DefaultDisk) {
		t.Errorf("%v, %v", st, err)
	}
	if got := debugfs(t, img.RootFS, "cat /sbin/init"); got != "one" {
		t.Errorf("the image holds %q", got)
	}
	for _, ref := range []string{"stub", img.Digest, paths.DigestDir(img.Digest), img.Digest[:7+12], paths.DigestDir(img.Digest)[:12]} {
		got, err := store.Resolve(t.Context(), ref, nil)
		if err != nil || got.Digest != img.Digest || got.RootFS != img.RootFS {
			t.Errorf("%s: %+v, %v", ref, got, err)
		}
	}
	// A new key is a new image; the old one stays for the VMs that use it.
	other, err := image.New(layout, catalog(stub{key: "2", tar: root(t, "two"), builds: &builds})).Resolve(t.Context(), "stub", nil)
	if err != nil || other.Digest == img.Digest {
		t.Errorf("%+v, %v", other, err)
	}
	if got, err := store.Resolve(t.Context(), "stub", nil); err != nil || got.Digest != img.Digest {
		t.Errorf("%+v, %v", got, err)
	}
	if builds.Load() != 2 {
		t.Errorf("%d builds", builds.Load())
	}
	if list, err := store.List(t.Context()); err != nil || len(list) != 2 {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestResolveNothing(t *testing.T) {
	store := image.New(paths.Layout{Cache: t.TempDir()}, catalog(stub{}))
	for _, ref := range []string{"nope", "", "stub@1", "sha256:" + strings.Repeat("0", 64), "0123456789ab", strings.Repeat("a", 5000)} {
		_, err := store.Resolve(t.Context(), ref, nil)
		if banger.KindOf(err) != banger.KindNotFound || banger.NextOf(err) != "banger image list --catalog" {
			t.Errorf("%.30q: %v", ref, err)
		}
	}
	if _, err := store.Resolve(t.Context(), "../x", nil); banger.KindOf(err) != banger.KindNotFound || banger.NextOf(err) != "banger image import --name NAME ../x" {
		t.Errorf("a path: %v, next %s", err, banger.NextOf(err))
	}
	_, err := store.Resolve(t.Context(), "nope", nil)
	if err == nil || err.Error() != `no image "nope": not a local name or digest, not in the catalog (stub), and not in a registry: "nope" has no host, and there is no default registry` {
		t.Error(err)
	}
	if list, err := store.List(t.Context()); err != nil || list == nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
}

func TestFailedBuildLeavesNothingAndCanBeRepeated(t *testing.T) {
	needStore(t)
	layout := paths.Layout{Cache: t.TempDir()}
	broken := errors.New("the mirror is gone")
	_, err := image.New(layout, catalog(stub{key: "1", tar: root(t, "one"), err: broken})).Resolve(t.Context(), "stub", nil)
	if !errors.Is(err, broken) {
		t.Error(err)
	}
	nothingHalfMade(t, layout)
	if _, err := image.New(layout, catalog(stub{key: "1", tar: []byte("no tar")})).Resolve(t.Context(), "stub", nil); banger.KindOf(err) != banger.KindInvalid {
		t.Error(err)
	}
	nothingHalfMade(t, layout)
	if _, err := image.New(layout, catalog(stub{key: "1", tar: root(t, "one")})).Resolve(t.Context(), "stub", nil); err != nil {
		t.Error(err)
	}
	nothingHalfMade(t, layout)
}

func TestWaiterCanBeCancelled(t *testing.T) {
	needStore(t)
	layout := paths.Layout{Cache: t.TempDir()}
	begun, finish := make(chan struct{}), make(chan struct{})
	b := stub{key: "1", tar: root(t, "one"), before: func() { close(begun); <-finish }}
	done := make(chan error)
	go func() {
		_, err := image.New(layout, catalog(b)).Resolve(t.Context(), "stub", nil)
		done <- err
	}()
	<-begun
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := image.New(layout, catalog(b)).Resolve(ctx, "stub", func(banger.Progress) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	close(finish)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestKilledBuild kills a process in the middle of a build: the next Resolve
// makes the image and takes away what the dead one left.
func TestKilledBuild(t *testing.T) {
	const cacheVariable = "BANGER_TEST_KILLED_BUILD"
	if cache := os.Getenv(cacheVariable); cache != "" {
		b := stub{key: "1", tar: root(t, strings.Repeat("x", 1<<20)), err: io.ErrUnexpectedEOF}
		_, _ = image.New(paths.Layout{Cache: cache}, catalog(stuck{b})).Resolve(context.Background(), "stub", nil)
		return
	}
	needStore(t)
	layout := paths.Layout{Cache: t.TempDir()}
	child := exec.Command(os.Args[0], "-test.run=^TestKilledBuild$")
	child.Env = append(os.Environ(), cacheVariable+"="+layout.Cache)
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	dead := make(chan struct{})
	go func() { _ = child.Wait(); close(dead) }()
	half := filepath.Join(layout.Images(), "tmp", "stub@1", "out")
	for {
		trees, _ := filepath.Glob(filepath.Join(half, ".rootfs.ext4.*.tmp"))
		if len(trees) > 0 {
			break
		}
		select {
		case <-dead:
			t.Fatal("the child ended by itself")
		case <-time.After(10 * time.Millisecond):
		}
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-dead
	store := image.New(layout, catalog(stub{key: "1", tar: root(t, "one")}))
	var left []string
	for len(left) == 0 { // a program that the child was about to run has its lock until it ends
		var err error
		if left, err = store.Leftovers(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
	if len(left) != 1 || left[0] != filepath.Dir(half) {
		t.Errorf("left over: %v", left)
	}
	img, err := store.Resolve(t.Context(), "stub", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := debugfs(t, img.RootFS, "cat /sbin/init"); got != "one" {
		t.Errorf("the image holds %.20q", got)
	}
	nothingHalfMade(t, layout)
}

// stuck writes part of its tar and then waits for ever.
type stuck struct{ stub }

func (s stuck) Build(_ context.Context, _ string, w io.Writer, _ banger.ProgressFunc) error {
	if _, err := w.Write(s.tar[:len(s.tar)/2]); err != nil {
		return err
	}
	select {}
}

func TestAddTar(t *testing.T) {
	needStore(t)
	layout := paths.Layout{Cache: t.TempDir()}
	store := image.New(layout, nil)
	config := image.Config{Source: "here", Env: []string{"A=b"}, Workdir: "/w", User: "u", Entrypoint: []string{"/e"}, Cmd: []string{"c", "d"}}
	var messages []string
	a, err := store.AddTar(t.Context(), "a", bytes.NewReader(root(t, "one")), config, func(p banger.Progress) { messages = append(messages, p.Message) })
	if err != nil {
		t.Fatal(err)
	}
	if a.Name != "a" || a.Source != "here" || a.Env[0] != "A=b" || a.Workdir != "/w" || a.User != "u" || a.Entrypoint[0] != "/e" || a.Cmd[1] != "d" || a.Architecture == "" {
		t.Errorf("%+v", a)
	}
	if strings.Join(messages, ",") != "write the file system" {
		t.Errorf("reported %q", messages)
	}
	same, err := store.AddTar(t.Context(), "b", bytes.NewReader(root(t, "one")), config, nil)
	if err != nil || same.Digest != a.Digest {
		t.Errorf("the same again: %+v, %v", same, err)
	}
	config.User = "another"
	other, err := store.AddTar(t.Context(), "a", bytes.NewReader(root(t, "one")), config, nil)
	if err != nil || other.Digest == a.Digest {
		t.Errorf("another config: %+v, %v", other, err)
	}
	if got, err := store.Resolve(t.Context(), "a", nil); err != nil || got.Digest != other.Digest {
		t.Errorf("%+v, %v", got, err)
	}
	list, err := store.List(t.Context())
	if err != nil || len(list) != 2 || list[0].Name != "a" || list[0].Digest != other.Digest || list[1].Name != "b" || list[1].Digest != a.Digest {
		t.Errorf("%+v, %v", list, err)
	}
	if list[0].Allocated <= 0 || list[0].Allocated > 16*banger.MiB {
		t.Errorf("an image of a small file takes %s", list[0].Allocated)
	}
	if _, err := store.AddTar(t.Context(), "b", bytes.NewReader(root(t, "two")), config, nil); err != nil {
		t.Error(err)
	}
	if list, err := store.List(t.Context()); err != nil || len(list) != 3 || list[0].Name != "" || list[0].Digest != a.Digest {
		t.Errorf("one whose name another has got: %+v, %v", list, err)
	}
	for _, name := range []string{"", "A", "../x", "x/y", ".x", "stub@1", "sha256:0", strings.Repeat("x", 129)} {
		if _, err := store.AddTar(t.Context(), name, bytes.NewReader(root(t, "one")), image.Config{}, nil); banger.KindOf(err) != banger.KindInvalid {
			t.Errorf("%.20q: %v", name, err)
		}
	}
	nothingHalfMade(t, layout)

	// The cache can be moved, and what is not whole is not found.
	moved := paths.Layout{Cache: filepath.Join(t.TempDir(), "moved")}
	if err := os.Rename(layout.Cache, moved.Cache); err != nil {
		t.Fatal(err)
	}
	if got, err := image.New(moved, nil).Resolve(t.Context(), "b", nil); err != nil || !strings.HasPrefix(got.RootFS, moved.Cache) {
		t.Errorf("%+v, %v", got, err)
	} else if err := os.Remove(got.RootFS); err != nil {
		t.Error(err)
	}
	if _, err := image.New(moved, nil).Resolve(t.Context(), "b", nil); banger.KindOf(err) != banger.KindNotFound {
		t.Errorf("without its file system: %v", err)
	}
	if list, err := image.New(moved, nil).List(t.Context()); err != nil || len(list) != 2 {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestTemplateIsMadeOnce(t *testing.T) {
	need(t, "mke2fs")
	layout := paths.Layout{Cache: t.TempDir()}
	if err := os.MkdirAll(layout.Templates(), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(layout.Templates(), ".work-2147483648.ext4.77.tmp"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	files := make([]os.FileInfo, 4)
	for i := range files {
		group.Go(func() {
			path, err := image.New(layout, nil).Template(t.Context(), 2*banger.GiB)
			if err != nil {
				t.Error(err)
				return
			}
			files[i], _ = os.Stat(path)
		})
	}
	group.Wait()
	for _, f := range files {
		if f == nil || !os.SameFile(f, files[0]) || f.Name() != "work-2147483648.ext4" || f.Size() != 2<<30 || f.Mode() != 0o644 {
			t.Errorf("%+v", f)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(layout.Templates(), ".*")); len(left) > 0 {
		t.Errorf("%q are left", left)
	}
	for _, size := range []banger.Bytes{0, 1, -1, 1 << 60} {
		if _, err := image.New(layout, nil).Template(t.Context(), size); banger.KindOf(err) != banger.KindInvalid {
			t.Errorf("%d: %v", size, err)
		}
	}
}

// TestSweepSparesTheLiving: what is half-made is left over only when nobody
// holds the lock of what it was to become.
func TestSweepSparesTheLiving(t *testing.T) {
	layout := paths.Layout{Cache: t.TempDir()}
	store := image.New(layout, nil)
	write := func(path string) string {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	template := write(filepath.Join(layout.Templates(), ".work-2147483648.ext4.77.tmp"))
	half := write(filepath.Join(layout.Images(), "tmp", "mine", "out", "rootfs.ext4"))
	write(filepath.Join(layout.Templates(), "work-2147483648.ext4"))
	lock, err := os.Create(write(filepath.Join(layout.Images(), "locks", "mine")))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if left, err := store.Leftovers(t.Context()); err != nil || len(left) != 1 || left[0] != template {
		t.Errorf("while the image is being made: %v, %v", left, err)
	}
	if err := errors.Join(store.Sweep(t.Context()), lock.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(half); err != nil {
		t.Errorf("a live maker was disturbed: %v", err)
	}
	if err := store.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left, err := store.Leftovers(t.Context()); err != nil || len(left) != 0 {
		t.Errorf("after the sweep: %v, %v", left, err)
	}
	nothingHalfMade(t, layout)
}
