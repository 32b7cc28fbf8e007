package kernel

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cavaliergopher/cpio"

	"banger.dev/banger"
	"banger.dev/banger/internal/agent/wire"
	"banger.dev/banger/internal/apt"
	"banger.dev/banger/internal/du"
	"banger.dev/banger/internal/kernel/kerneltest"
	"banger.dev/banger/internal/paths"
)

// fakeArchive is a Debian archive with one kernel, whose release can change. It
// keeps what was downloaded in dir.
type fakeArchive struct {
	dir, release string
	meta         string // the package that depends on the kernel; Debian's otherwise
	split        bool   // the modules have a package of their own
	down         bool
	updates      int
	downloads    int
}

func (a *fakeArchive) Suite() string { return "trixie" }

func (a *fakeArchive) Update(context.Context, banger.ProgressFunc) error {
	if a.down {
		return banger.Errorf(banger.KindUnavailable, "the mirror cannot be reached")
	}
	a.updates++
	return nil
}

func (a *fakeArchive) Latest(_ context.Context, name string) (apt.Package, error) {
	if name == cmp.Or(a.meta, DefaultRelease().meta()) {
		return apt.Package{Name: name, Version: "1", Depends: []string{"linux-base", "linux-image-" + a.release}}, nil
	}
	p := apt.Package{Name: name, Version: a.release + "-1", Depends: []string{"kmod"}}
	if a.split && strings.HasPrefix(name, "linux-image-") {
		p.Depends = append(p.Depends, "linux-modules-"+a.release)
	}
	sum := sha256.Sum256(a.deb(name))
	p.SHA256 = hex.EncodeToString(sum[:])
	return p, nil
}

// deb is a package of the archive.
func (a *fakeArchive) deb(name string) []byte {
	all := kerneltest.KernelFiles(a.release)
	if !a.split {
		return kerneltest.Deb(all)
	}
	modules := strings.HasPrefix(name, "linux-modules-")
	return kerneltest.Deb(slices.DeleteFunc(all, func(f kerneltest.File) bool { return strings.Contains(f.Name, "vmlinuz") == modules }))
}

func (a *fakeArchive) Download(_ context.Context, p apt.Package, report banger.ProgressFunc) (string, error) {
	a.downloads++
	report.Report(banger.Progress{Stage: "apt", Message: "download " + p.Name, Bytes: true})
	file := filepath.Join(a.dir, p.Name+".deb")
	return file, os.WriteFile(file, a.deb(p.Name), 0o644)
}

func testStore(t *testing.T, cache string, a *fakeArchive, agent string) *Store {
	t.Helper()
	if a.dir == "" {
		a.dir = t.TempDir()
	}
	return New(paths.Layout{Cache: cache}, a, NewAgent([]byte(agent)), slog.New(slog.DiscardHandler))
}

func pulled(t *testing.T, s *Store) banger.Kernel {
	t.Helper()
	needTools(t, "mke2fs")
	k, err := s.Default(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// initramfs reads both archives of an initramfs: name → content.
func initramfs(t *testing.T, file string) map[string]string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(data)%4 != 0 {
		t.Fatalf("%d bytes: an archive is not padded", len(data))
	}
	files := map[string]string{}
	input := bytes.NewReader(data)
	for input.Len() > 0 {
		r := cpio.NewReader(input)
		for {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			content, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			files[h.Name] = string(content)
		}
		for input.Len()%4 != 0 { // the reader leaves the trailer's padding
			_, _ = input.ReadByte()
		}
	}
	return files
}

func TestPullMakesAKernel(t *testing.T) {
	cache := t.TempDir()
	a := &fakeArchive{release: "6.1"}
	s := testStore(t, cache, a, "agent")
	var stages []string
	needTools(t, "mke2fs")
	k, err := s.Default(t.Context(), func(p banger.Progress) { stages = append(stages, p.Stage) })
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(stages, ","); got != "kernel,unpack,initramfs,modules disk" {
		t.Errorf("stages %s", got)
	}
	if k.Release != "6.1" || k.Source != "debian trixie linux-image-6.1 6.1-1" || !strings.HasPrefix(k.Digest, "sha256:") {
		t.Errorf("got %+v", k)
	}
	vmlinux, err := os.ReadFile(k.VMLinux)
	if err != nil || !bytes.Equal(vmlinux, kerneltest.VMLinux(8192)) {
		t.Errorf("vmlinux: %d bytes, %v", len(vmlinux), err)
	}
	files := initramfs(t, k.Initramfs)
	if files["init"] != "agent" {
		t.Errorf("init is %q", files["init"])
	}
	want := "/modules/00-virtio_blk.ko\n/modules/01-failover.ko\n/modules/02-net_failover.ko\n/modules/03-virtio_net.ko\n"
	if files["modules/order"] != want {
		t.Errorf("order:\n%s", files["modules/order"])
	}
	for line := range strings.Lines(want) {
		if !strings.HasPrefix(files[strings.Trim(line, "/\n")], "\x7fELF") {
			t.Errorf("%s is not an unpacked module", line)
		}
	}
	dir := filepath.Dir(k.VMLinux)
	for _, name := range []string{fileVMLinux, fileInitramfs, fileBootModules, fileModules, fileConfig, fileManifest} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != 0o644 {
			t.Errorf("%s has mode %s", name, info.Mode())
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 6 {
		t.Errorf("%d files in %s", len(entries), dir)
	}
}

func TestDefaultNeedsNoNetworkAfterTheFirstPull(t *testing.T) {
	cache := t.TempDir()
	first := pulled(t, testStore(t, cache, &fakeArchive{release: "6.1"}, "agent"))
	offline := &fakeArchive{release: "6.2", down: true}
	again, err := testStore(t, cache, offline, "agent").Default(t.Context(), func(p banger.Progress) { t.Errorf("reported %+v", p) })
	if err != nil || again != first {
		t.Errorf("got %+v, %v", again, err)
	}
}

func TestNewAgentSharesAllButTheInitramfs(t *testing.T) {
	cache := t.TempDir()
	old := pulled(t, testStore(t, cache, &fakeArchive{release: "6.1"}, "agent 1"))
	offline := &fakeArchive{down: true}
	fresh, err := testStore(t, cache, offline, "agent 2").Default(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if fresh.Digest == old.Digest || fresh.Release != old.Release {
		t.Errorf("got %+v beside %+v", fresh, old)
	}
	for _, pair := range [][2]string{{old.VMLinux, fresh.VMLinux}, {old.Modules, fresh.Modules}} {
		a, _ := os.Stat(pair[0])
		b, _ := os.Stat(pair[1])
		if !os.SameFile(a, b) {
			t.Errorf("%s is a copy", pair[1])
		}
	}
	if got := initramfs(t, fresh.Initramfs); got["init"] != "agent 2" || got["modules/order"] == "" {
		t.Errorf("init is %q", got["init"])
	}
	if got := initramfs(t, old.Initramfs)["init"]; got != "agent 1" {
		t.Errorf("the old kernel has now init %q", got)
	}
}

func TestTheSSHServerLiesBehindTheModules(t *testing.T) {
	cache := t.TempDir()
	with := func(server string) banger.Kernel {
		s := New(paths.Layout{Cache: cache}, &fakeArchive{release: "6.1"}, NewAgent([]byte("agent")).WithSSH([]byte(server)), slog.New(slog.DiscardHandler))
		return pulled(t, s)
	}
	bare := pulled(t, testStore(t, cache, &fakeArchive{release: "6.1"}, "agent"))
	fileSystem := head(t, bare.Modules)
	for _, server := range []string{"server 1", "a second server"} {
		k := with(server)
		disk, err := os.Open(k.Modules)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = disk.Close() }()
		info, err := disk.Stat()
		if err != nil {
			t.Fatal(err)
		}
		found, err := wire.FindServer(disk, info.Size())
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(found)
		if err != nil || string(got) != server || k.Digest == bare.Digest {
			t.Errorf("%q, %v", got, err)
		}
		if !bytes.Equal(head(t, k.Modules), fileSystem) {
			t.Error("the file system is another")
		}
		if used, err := new(du.Counter).Tree(k.Modules); err != nil || used > 4*banger.MiB {
			t.Errorf("the disk takes %s, %v", used, err)
		}
	}
	if !bytes.Equal(head(t, bare.Modules), fileSystem) {
		t.Error("the first kernel's disk has changed")
	}
}

// head is the part of a modules disk that has something in it.
func head(t *testing.T, disk string) []byte {
	t.Helper()
	f, err := os.Open(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	content, err := io.ReadAll(io.LimitReader(f, 16<<20))
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func TestPullFindsANewerKernel(t *testing.T) {
	cache := t.TempDir()
	a := &fakeArchive{release: "6.1"}
	s := testStore(t, cache, a, "agent")
	old := pulled(t, s)
	a.release = "6.2"
	if k, err := s.Default(t.Context(), nil); err != nil || k != old {
		t.Errorf("default after a release: %+v, %v; want the cached one", k, err)
	}
	fresh, changed, err := s.Pull(t.Context(), "debian", nil)
	if err != nil || !changed || fresh.Release != "6.2" {
		t.Fatalf("pull: %+v, %v", fresh, err)
	}
	if k, err := s.Default(t.Context(), nil); err != nil || k != fresh {
		t.Errorf("default after a pull: %+v, %v", k, err)
	}
	if _, changed, err := s.Pull(t.Context(), "debian:trixie", nil); err != nil || changed || a.downloads != 2 {
		t.Errorf("pull of what is there: %v, %d downloads", err, a.downloads)
	}
	list, err := s.List(t.Context())
	if err != nil || len(list) != 2 || list[0] != fresh || list[1].Digest != old.Digest || list[1].Name != "" {
		t.Errorf("list: %+v, %v", list, err)
	}
}

func TestGet(t *testing.T) {
	cache := t.TempDir()
	s := testStore(t, cache, &fakeArchive{release: "6.1"}, "agent 1")
	old := pulled(t, s)
	fresh := pulled(t, testStore(t, cache, &fakeArchive{release: "6.1"}, "agent 2"))
	hex := paths.DigestDir(old.Digest)
	for _, ref := range []string{old.Digest, hex, hex[:12], "sha256:" + hex[:12]} {
		if k, err := s.Get(t.Context(), ref); err != nil || k.Digest != old.Digest {
			t.Errorf("%s: %+v, %v", ref, k, err)
		}
	}
	if k, err := s.Get(t.Context(), "6.1"); err != nil || k.Digest != fresh.Digest {
		t.Errorf("by release: %+v, %v; want the newest", k, err)
	}
	for _, ref := range []string{"", "6.9", hex[:3], "../" + hex, strings.Repeat("0", 64), "sha256:" + strings.Repeat("0", 64), "abcdef012345", "/etc"} {
		_, err := s.Get(t.Context(), ref)
		if banger.KindOf(err) != banger.KindNotFound || !strings.Contains(err.Error(), s.dir) || banger.NextOf(err) == "" {
			t.Errorf("%q: %v", ref, err)
		}
	}
	empty := testStore(t, t.TempDir(), &fakeArchive{}, "agent")
	if _, err := empty.Get(t.Context(), "debian:bookworm"); banger.NextOf(err) != "banger kernel pull debian:bookworm" {
		t.Errorf("a release that is not here: %v, next %q", err, banger.NextOf(err))
	}
	if _, err := empty.Get(t.Context(), "6.1"); banger.KindOf(err) != banger.KindNotFound {
		t.Errorf("in an empty store: %v", err)
	}
	if list, err := empty.List(t.Context()); err != nil || list == nil || len(list) != 0 {
		t.Errorf("list of an empty store: %v, %v", list, err)
	}
}

func TestDamagedKernelIsMadeAgain(t *testing.T) {
	for _, damage := range []func(k banger.Kernel) error{
		func(k banger.Kernel) error { return os.Truncate(k.Initramfs, 10) },
		func(k banger.Kernel) error { return os.Remove(k.VMLinux) },
		func(k banger.Kernel) error {
			return os.WriteFile(filepath.Join(filepath.Dir(k.VMLinux), fileManifest), []byte("{"), 0o644)
		},
	} {
		cache := t.TempDir()
		a := &fakeArchive{release: "6.1"}
		s := testStore(t, cache, a, "agent")
		k := pulled(t, s)
		if err := damage(k); err != nil {
			t.Fatal(err)
		}
		if list, err := s.List(t.Context()); err != nil || len(list) != 0 {
			t.Errorf("a damaged kernel is listed: %v, %v", list, err)
		}
		again := pulled(t, s)
		if again.Digest != k.Digest || a.downloads != 2 {
			t.Errorf("got %+v after %d downloads", again, a.downloads)
		}
		onlyKernels(t, s, 1)
	}
}

// onlyKernels checks that nothing is left in the store beside n kernels.
func onlyKernels(t *testing.T, s *Store, n int) {
	t.Helper()
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	kernels := 0
	for _, e := range entries {
		switch name := e.Name(); {
		case len(name) == 64:
			kernels++
		case name == "locks" || name == "refs" || name == "users":
		default:
			t.Errorf("%s is left", name)
		}
	}
	if kernels != n {
		t.Errorf("%d kernels, want %d", kernels, n)
	}
}

func TestFailedBuildLeavesNothing(t *testing.T) {
	a := &fakeArchive{release: "6.1"}
	s := testStore(t, t.TempDir(), a, "agent")
	ctx, cancel := context.WithCancel(t.Context())
	_, err := s.Default(ctx, func(p banger.Progress) {
		if p.Stage == stageInitramfs {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	onlyKernels(t, s, 0)
}

func TestUnreachableArchive(t *testing.T) {
	_, err := testStore(t, t.TempDir(), &fakeArchive{down: true}, "agent").Default(t.Context(), nil)
	if banger.KindOf(err) != banger.KindUnavailable {
		t.Errorf("got %v", err)
	}
}
