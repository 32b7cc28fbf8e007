package kernel

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/kernel/kerneltest"
)

// imports is Import of something that must work.
func imports(t *testing.T, s *Store, name string, upload []byte) banger.Kernel {
	t.Helper()
	needTools(t, "mke2fs")
	k, err := s.Import(t.Context(), name, bytes.NewReader(upload), nil)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// tarOf is what the client makes of a directory, or of a kernel and its modules.
func tarOf(t *testing.T, files ...kerneltest.File) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		if err := w.WriteHeader(&tar.Header{Name: f.Name, Typeflag: tar.TypeReg, Mode: 0o600, Size: int64(len(f.Data))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.Data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// allBuiltIn is a kernel that carries its config, in which a guest has what it needs.
func allBuiltIn() []byte {
	config := "CONFIG_VIRTIO_PCI=y\nCONFIG_VIRTIO_BLK=y\nCONFIG_VIRTIO_CONSOLE=y\nCONFIG_VIRTIO_NET=y\nCONFIG_EXT4_FS=y\nCONFIG_BLK_DEV_INITRD=y\nCONFIG_DEVTMPFS=y\n"
	vmlinux := kerneltest.VMLinux(8192)
	copy(vmlinux[2048:], "Linux version %s\x00Linux version 6.5-own (nobody@nowhere)\x00")
	copy(vmlinux[4096:], "IKCFG_ST"+string(kerneltest.Gzip([]byte(config)))+"IKCFG_ED")
	return vmlinux
}

// named is a kernel that does not say its config, and has drivers with these names.
func named(drivers ...string) []byte {
	vmlinux := kerneltest.VMLinux(8192)
	copy(vmlinux[2048:], "Linux version 6.5-own (nobody@nowhere)\x00"+strings.Join(drivers, "\x00")+"\x00")
	return vmlinux
}

func TestImport(t *testing.T) {
	module := kerneltest.Module([]string{"name=virtio_blk", "vermagic=6.5-own SMP mod_unload "}, nil)
	builtin := []byte("kernel/virtio_pci.ko\nkernel/virtio_console.ko\nkernel/ext4.ko\nkernel/virtio_net.ko\n")
	image := kerneltest.NamedBzImage("6.5-own", kerneltest.Gzip(kerneltest.VMLinux(8192)))
	for name, test := range map[string]struct {
		upload  []byte
		release string
		source  string
		modules int
	}{
		"a package":             {kerneltest.KernelDeb("6.1"), "6.1", "deb", 4},
		"a vmlinux":             {allBuiltIn(), "6.5-own", "vmlinux", 0},
		"one without a config":  {named("virtio-pci", "virtio_blk", "virtio_console", "virtio_net", "ext4", "devtmpfs"), "6.5-own", "vmlinux", 0},
		"a bzImage":             {kerneltest.NamedBzImage("6.5-own", kerneltest.Gzip(allBuiltIn())), "6.5-own", "bzImage", 0},
		"an unpacked package":   {tarOf(t, kerneltest.File{Name: "./lib/modules/6.5-own/vmlinuz", Data: image}, kerneltest.File{Name: "./lib/modules/6.5-own/kernel/virtio_blk.ko", Data: module}, kerneltest.File{Name: "./lib/modules/6.5-own/modules.builtin", Data: builtin}), "6.5-own", "directory", 1},
		"a kernel with modules": {tarOf(t, kerneltest.File{Name: "vmlinuz", Data: image}, kerneltest.File{Name: "modules/kernel/virtio_blk.ko", Data: module}, kerneltest.File{Name: "modules/modules.builtin", Data: builtin}), "6.5-own", "directory", 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := testStore(t, t.TempDir(), &fakeArchive{down: true}, "agent")
			k := imports(t, s, "mine", test.upload)
			if k.Name != "mine" || k.Release != test.release || k.Source != test.source || k.ModuleCount != test.modules || k.Default {
				t.Errorf("%+v", k)
			}
			if initramfs(t, k.Initramfs)["init"] != "agent" {
				t.Error("there is no agent in it")
			}
			for _, ref := range []string{"mine", k.Digest, test.release} {
				if got, err := s.Resolve(t.Context(), ref, nil); err != nil || got.Digest != k.Digest {
					t.Errorf("%s: %+v, %v", ref, got, err)
				}
			}
			if got, err := s.Resolve(t.Context(), "", nil); banger.KindOf(err) != banger.KindUnavailable {
				t.Errorf("it became the default kernel: %+v, %v", got, err)
			}
			onlyKernels(t, s, 1)
		})
	}
}

// An import whose client stands still holds up no other, of the same name either.
func TestImportBesideOneThatStandsStill(t *testing.T) {
	needTools(t, "mke2fs")
	s := testStore(t, t.TempDir(), &fakeArchive{down: true}, "agent")
	out, in := io.Pipe()
	first := make(chan error, 1)
	go func() {
		_, err := s.Import(t.Context(), "mine", out, nil)
		_ = out.CloseWithError(err)
		first <- err
	}()
	if _, err := in.Write([]byte("the beginning")); err != nil {
		t.Fatal(err)
	}
	second := make(chan struct{})
	go func() {
		defer close(second)
		if _, err := s.Import(t.Context(), "mine", bytes.NewReader(allBuiltIn()), nil); err != nil {
			t.Error(err)
		}
	}()
	select {
	case <-second:
	case <-time.After(2 * time.Minute):
		t.Error("it waits for the other")
	}
	_ = in.CloseWithError(errors.New("the client is gone"))
	if err := <-first; err == nil {
		t.Error("half of a kernel is one")
	}
	<-second
	onlyKernels(t, s, 1)
}

func TestImportRefuses(t *testing.T) {
	foreign := kerneltest.Module([]string{"name=virtio_blk", "vermagic=6.4 SMP "}, nil)
	image := kerneltest.NamedBzImage("6.5", kerneltest.Gzip(kerneltest.VMLinux(8192)))
	arm := bytes.Clone(allBuiltIn())
	arm[18] = 183
	deb := kerneltest.KernelDeb("6.1")
	var large bytes.Buffer
	if err := tar.NewWriter(&large).WriteHeader(&tar.Header{Name: "modules/a.ko", Typeflag: tar.TypeReg, Size: 5 << 30}); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		name   string
		upload []byte
		says   string
	}{
		"a strange name":       {"../x", deb, "cannot be a kernel's name"},
		"a release's name":     {"debian-trixie", deb, "those that begin so are pulled"},
		"text":                 {"mine", []byte("hello"), "no Debian package, no kernel for x86-64"},
		"nothing":              {"mine", nil, "nothing came"},
		"another architecture": {"mine", arm, "not for x86-64"},
		"half a package":       {"mine", deb[:len(deb)/2], "unexpected EOF"},
		"modules of another":   {"mine", tarOf(t, kerneltest.File{Name: "vmlinuz", Data: image}, kerneltest.File{Name: "modules/a.ko", Data: foreign}), "is for the kernel 6.4, not for 6.5"},
		"modules that lack":    {"mine", tarOf(t, kerneltest.File{Name: "vmlinuz", Data: image}, kerneltest.File{Name: "modules/modules.order"}), "has no module virtio_pci"},
		"no driver of disks":   {"mine", named("virtio-pci", "virtio_console", "virtio_net", "ext4", "devtmpfs"), "has not built in CONFIG_VIRTIO_BLK,"},
		"a claim of 5 GiB":     {"mine", large.Bytes(), "unpacks to more than"},
		"modules alone":        {"mine", tarOf(t, kerneltest.File{Name: "modules/modules.order"}), "not a kernel package"},
	} {
		t.Run(name, func(t *testing.T) {
			s := testStore(t, t.TempDir(), &fakeArchive{}, "agent")
			_, err := s.Import(t.Context(), test.name, bytes.NewReader(test.upload), nil)
			if banger.KindOf(err) != banger.KindInvalid || !strings.Contains(err.Error(), test.says) {
				t.Errorf("%v", err)
			}
			if _, err := os.Stat(s.dir); err == nil {
				onlyKernels(t, s, 0)
			}
			if list, err := s.List(t.Context()); err != nil || len(list) != 0 {
				t.Errorf("%+v, %v", list, err)
			}
		})
	}
}

// A client that dies has sent half of it.
func TestAnUploadThatBreaksOffLeavesNothing(t *testing.T) {
	s := testStore(t, t.TempDir(), &fakeArchive{}, "agent")
	broken := io.MultiReader(bytes.NewReader(kerneltest.KernelDeb("6.1")), failingReader{})
	if _, err := s.Import(t.Context(), "mine", broken, nil); err == nil || !strings.Contains(err.Error(), "connection reset") {
		t.Errorf("%v", err)
	}
	onlyKernels(t, s, 0)
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errors.New("connection reset") }

// Two names for one package share its files, and a new agent needs no package.
func TestNamesOfOneKernel(t *testing.T) {
	cache := t.TempDir()
	s := testStore(t, cache, &fakeArchive{release: "6.1"}, "agent")
	pulledOne := pulled(t, s)
	mine := imports(t, s, "mine", kerneltest.KernelDeb("6.1"))
	if mine.Digest != pulledOne.Digest || mine.Name != "mine" {
		t.Errorf("%+v beside %+v", mine, pulledOne)
	}
	onlyKernels(t, s, 1)
	list, err := s.List(t.Context())
	if err != nil || len(list) != 2 || list[0].Name != "debian-trixie" || !list[0].Default || list[1].Name != "mine" || list[1].Default {
		t.Errorf("%+v, %v", list, err)
	}

	newer := testStore(t, cache, &fakeArchive{down: true}, "newer agent")
	fresh, err := newer.Resolve(t.Context(), "mine", nil)
	if err != nil || fresh.Digest == mine.Digest || initramfs(t, fresh.Initramfs)["init"] != "newer agent" {
		t.Errorf("%+v, %v", fresh, err)
	}

	if _, err := newer.Delete(t.Context(), "6.1"); banger.KindOf(err) != banger.KindInvalid {
		t.Errorf("delete of a release: %v", err)
	}
	if _, err := newer.Delete(t.Context(), "debian"); err != nil {
		t.Fatal(err)
	}
	onlyKernels(t, newer, 2)
	vm := filepath.Join(t.TempDir(), "vm")
	if err := os.Mkdir(vm, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.Hold(t.Context(), mine.Digest, vm); err != nil { // made for the earlier agent
		t.Fatal(err)
	}
	if _, err := newer.Delete(t.Context(), "mine"); banger.KindOf(err) != banger.KindConflict {
		t.Errorf("delete of one that a VM needs: %v", err)
	}
	onlyKernels(t, newer, 2)
	if err := s.Release(vm); err != nil {
		t.Fatal(err)
	}
	if _, err := newer.Delete(t.Context(), "mine"); err != nil {
		t.Fatal(err)
	}
	onlyKernels(t, newer, 0)
	if _, err := newer.Resolve(t.Context(), "mine", nil); banger.KindOf(err) != banger.KindNotFound {
		t.Errorf("one that is deleted: %v", err)
	}
}

// What a user has named is kept by a prune, as it is until it is made anew for a
// new agent; pruned all the same, its name is gone too.
func TestAnImportedKernelStaysUntilItIsRemoved(t *testing.T) {
	cache := t.TempDir()
	mine := imports(t, testStore(t, cache, &fakeArchive{}, "agent"), "mine", kerneltest.KernelDeb("6.1"))
	s := testStore(t, cache, &fakeArchive{}, "newer agent")
	entries, err := s.Entries(t.Context())
	if err != nil || len(entries) != 1 || !entries[0].Current || entries[0].Digest != mine.Digest {
		t.Errorf("%+v, %v", entries, err)
	}
	if err := s.RemoveEntry(t.Context(), entries[0]); err != nil {
		t.Fatal(err)
	}
	if names, err := s.names(); err != nil || len(names) != 0 {
		t.Errorf("%v, %v", names, err)
	}
}

func TestReleases(t *testing.T) {
	for text, want := range map[string]string{
		"debian": "debian-trixie", "debian:bookworm": "debian-bookworm", "debian-trixie": "debian-trixie", "ubuntu": "ubuntu-noble", "ubuntu:jammy": "ubuntu-jammy",
	} {
		if r, ok := parseRelease(text); !ok || r.name() != want {
			t.Errorf("%s is %+v", text, r)
		}
	}
	for _, text := range []string{"", "fedora", "debian:", "debian:../x", "debian:Trixie", "debianx", "6.1"} {
		if r, ok := parseRelease(text); ok {
			t.Errorf("%q is %+v", text, r)
		}
		if _, _, err := testStore(t, t.TempDir(), &fakeArchive{}, "agent").Pull(t.Context(), text, nil); banger.KindOf(err) != banger.KindInvalid {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// Another release has an archive of its own, and a package for the modules.
func TestPullOfAnotherRelease(t *testing.T) {
	needTools(t, "mke2fs")
	s := testStore(t, t.TempDir(), &fakeArchive{down: true}, "agent")
	s.Archives = func(r Release) Packages {
		return &fakeArchive{release: "6.8-generic", dir: t.TempDir(), meta: "linux-image-virtual", split: true}
	}
	k, changed, err := s.Pull(t.Context(), "ubuntu:noble", nil)
	if err != nil || !changed || k.Name != "ubuntu-noble" || k.Release != "6.8-generic" || k.ModuleCount != 4 || k.Source != "ubuntu noble linux-image-6.8-generic 6.8-generic-1" {
		t.Fatalf("%+v, %v", k, err)
	}
	s.Archives = nil
	for _, ref := range []string{"ubuntu", "ubuntu-noble", "ubuntu:noble"} { // it is here
		if again, err := s.Resolve(t.Context(), ref, nil); err != nil || again != k {
			t.Errorf("%s: %+v, %v", ref, again, err)
		}
	}
	if _, err := s.Resolve(t.Context(), "debian:bookworm", nil); banger.KindOf(err) != banger.KindUnavailable {
		t.Errorf("a release without an archive: %v", err)
	}
}
