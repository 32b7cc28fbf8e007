package kernel

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"banger.dev/banger"
	"banger.dev/banger/internal/kernel/kerneltest"
)

// needTools skips the test where a program is absent, and fails it in CI.
func needTools(t *testing.T, programs ...string) {
	t.Helper()
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
}

// settled unpacks a package and makes of it what does not need a file system.
func settled(t *testing.T, deb []byte) (dir, release string, err error) {
	t.Helper()
	dir = t.TempDir()
	u, err := newUnpacker(filepath.Join(dir, "work"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = u.close() }()
	if err := walkDeb(bytes.NewReader(deb), u.visit); err != nil {
		return dir, "", err
	}
	release, err = u.settle(dir)
	return dir, release, err
}

// below are the files in a directory.
func below(t *testing.T, dir string) string {
	t.Helper()
	var got []string
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(dir, p)
			got = append(got, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(got, " ")
}

func bzImage() []byte { return kerneltest.BzImage(kerneltest.Gzip(kerneltest.VMLinux(8192)), 0) }

func TestUnpackTakesTheKernelAlone(t *testing.T) {
	for _, lib := range []string{"./lib/", "./usr/lib/"} {
		dir, release, err := settled(t, kerneltest.Deb([]kerneltest.File{
			{Name: "./boot/vmlinuz-6.1", Data: bzImage()},
			{Name: "./boot/config-6.1", Data: []byte("CONFIG_A=y\n")},
			{Name: "./boot/System.map-6.1", Data: []byte("map")},
			{Name: "./etc/passwd", Data: []byte("no")},
			{Name: lib + "modules/6.1/kernel/a.ko", Data: []byte("a")},
			{Name: lib + "modules/6.1/build", Link: "/usr/src"},
		}))
		if err != nil || release != "6.1" {
			t.Fatalf("release %q, %v", release, err)
		}
		if got := below(t, dir); got != "config vmlinux work/config work/modules/6.1/kernel/a.ko work/vmlinuz" {
			t.Errorf("unpacked %q", got)
		}
	}
}

// Fedora has the kernel and its config beside the modules.
func TestUnpackFindsTheKernelAmongItsModules(t *testing.T) {
	dir, release, err := settled(t, kerneltest.Deb([]kerneltest.File{
		{Name: "./lib/modules/6.1.fc40/vmlinuz", Data: bzImage()},
		{Name: "./lib/modules/6.1.fc40/config", Data: []byte("CONFIG_A=y\n")},
		{Name: "./lib/modules/6.1.fc40/kernel/a.ko", Data: []byte("a")},
	}))
	if err != nil || release != "6.1.fc40" {
		t.Fatalf("release %q, %v", release, err)
	}
	if got := below(t, dir); got != "config vmlinux work/config work/modules/6.1.fc40/kernel/a.ko work/vmlinuz" {
		t.Errorf("unpacked %q", got)
	}
}

func TestUnpackStaysInItsDirectory(t *testing.T) {
	dir, _, err := settled(t, kerneltest.Deb([]kerneltest.File{
		{Name: "./boot/vmlinuz-6.1", Data: bzImage()},
		{Name: "./lib/modules/6.1/a.ko", Data: []byte("a")},
		{Name: "./lib/modules/../../escaped", Data: []byte("x")},
		{Name: "./lib/modules/6.1/../../../../escaped", Data: []byte("x")},
		{Name: "./lib/modules/../../../../boot/vmlinuz", Data: []byte("x")},
	}))
	if err != nil {
		t.Fatal(err)
	}
	if got := below(t, filepath.Dir(dir)); strings.Contains(got, "escaped") {
		t.Errorf("a file escaped: %s", got)
	}
}

func TestUnpackRefuses(t *testing.T) {
	image := kerneltest.File{Name: "./boot/vmlinuz-6.1", Data: bzImage()}
	module := kerneltest.File{Name: "./lib/modules/6.1/a.ko", Data: []byte("a")}
	config := kerneltest.File{Name: "./boot/config-6.1", Data: []byte("# CONFIG_EXT4_FS is not set\nCONFIG_VIRTIO_PCI=m\nCONFIG_VIRTIO_BLK=y\n")}
	named := kerneltest.File{Name: "./boot/vmlinuz-6.2", Data: kerneltest.NamedBzImage("6.1", kerneltest.Gzip(kerneltest.VMLinux(8192)))}
	for name, test := range map[string]struct {
		files []kerneltest.File
		says  string
	}{
		"no kernel":            {[]kerneltest.File{module}, "not a kernel package"},
		"other modules":        {[]kerneltest.File{image, {Name: "./lib/modules/6.2/a.ko"}}, "the kernel is 6.1, and the modules are for 6.2"},
		"two kernels":          {[]kerneltest.File{image, {Name: "./boot/vmlinuz-6.2"}, module}, "two kernels"},
		"one module twice":     {[]kerneltest.File{image, module, module}, "twice"},
		"named otherwise":      {[]kerneltest.File{named, module}, "vmlinuz-6.2 says that it is 6.1"},
		"a path for a release": {[]kerneltest.File{{Name: "./vmlinuz", Data: kerneltest.NamedBzImage("../6.1", kerneltest.Gzip(kerneltest.VMLinux(8192)))}}, "does not say its release"},
		"no release":           {[]kerneltest.File{{Name: "./vmlinuz", Data: bzImage()}}, "does not say its release"},
		"nothing built in":     {[]kerneltest.File{image, config}, "not built in CONFIG_VIRTIO_PCI, CONFIG_VIRTIO_CONSOLE"},
		"no entry for VMs":     {[]kerneltest.File{{Name: "./boot/vmlinuz-6.1", Data: kerneltest.BzImage(kerneltest.Gzip(kerneltest.VMLinux(120)), 0)}, module}, "no entry point for virtual machines"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := settled(t, kerneltest.Deb(test.files))
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want %q", err, test.says)
			}
		})
	}
}

func TestDamagedDeb(t *testing.T) {
	deb := kerneltest.KernelDeb("6.1")
	negative := bytes.Clone(deb)
	copy(negative[8+48:], "-1        ")
	for name, test := range map[string]struct {
		deb  []byte
		says string
	}{
		"nothing":         {nil, "no Debian package"},
		"text":            {[]byte("not a package"), "no Debian package"},
		"no members":      {deb[:8], "no data.tar"},
		"half a header":   {deb[:40], "cut off"},
		"half a member":   {deb[:8+60+2], "cut off"},
		"a negative size": {negative, "damaged"},
		"half the data":   {deb[:len(deb)*2/3], "unexpected EOF"},
		"all but its end": {deb[:len(deb)-1024], "cut off"}, // where it could end
	} {
		t.Run(name, func(t *testing.T) {
			err := walkDeb(bytes.NewReader(test.deb), func(*tar.Header, io.Reader) error { return nil })
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want %q", err, test.says)
			}
		})
	}
}

// What dpkg-deb makes is read, however it is compressed.
func TestDebsOfDpkg(t *testing.T) {
	needTools(t, "dpkg-deb")
	root := t.TempDir()
	for name, content := range map[string]string{"DEBIAN/control": "Package: test\nVersion: 1\nArchitecture: all\nMaintainer: nobody\nDescription: none\n", "boot/file": "content"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, compression := range []string{"none", "gzip", "xz", "zstd"} {
		file := filepath.Join(t.TempDir(), "x.deb")
		if out, err := exec.Command("dpkg-deb", "-Z"+compression, "--root-owner-group", "-b", root, file).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		err = walkDeb(f, func(h *tar.Header, r io.Reader) error {
			if h.Name == "./boot/file" {
				content, err := io.ReadAll(r)
				got = string(content)
				return err
			}
			return nil
		})
		if err != nil || got != "content" {
			t.Errorf("%s: %q, %v", compression, got, err)
		}
		_ = f.Close()
		if compression == "gzip" {
			wantDamaged(t, file)
		}
	}
}

// wantDamaged changes the sum at the end of a package, behind its last file.
func wantDamaged(t *testing.T, file string) {
	t.Helper()
	deb, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	deb[len(deb)-6]++
	if err := walkDeb(bytes.NewReader(deb), func(*tar.Header, io.Reader) error { return nil }); err == nil {
		t.Error("what does not add up is taken")
	}
}

func FuzzWalkDeb(f *testing.F) {
	f.Add(kerneltest.KernelDeb("6.1"))
	f.Add([]byte(debMagic))
	f.Fuzz(func(t *testing.T, deb []byte) {
		entries := 0
		_ = walkDeb(bytes.NewReader(deb), func(*tar.Header, io.Reader) error {
			if entries++; entries > len(deb) {
				t.Fatal("there is no end to it")
			}
			return nil
		})
	})
}

func TestWithoutAgent(t *testing.T) {
	_, err := testStore(t, t.TempDir(), &fakeArchive{}, "").Default(t.Context(), nil)
	if banger.KindOf(err) != banger.KindUnavailable || banger.NextOf(err) != "run make build" {
		t.Errorf("got %v, next %q", err, banger.NextOf(err))
	}
}
