package kernel

import (
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

func unpackForTest(t *testing.T, files []kerneltest.File) (dir, release string, err error) {
	t.Helper()
	needTools(t, "dpkg-deb")
	deb := filepath.Join(t.TempDir(), "x.deb")
	if err := os.WriteFile(deb, kerneltest.Deb(files), 0o644); err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	release, err = unpackDeb(t.Context(), deb, dir)
	return dir, release, err
}

func TestUnpackDebTakesTheKernelAlone(t *testing.T) {
	for _, lib := range []string{"./lib/", "./usr/lib/"} {
		dir, release, err := unpackForTest(t, []kerneltest.File{
			{Name: "./boot/vmlinuz-6.1", Data: []byte("image")},
			{Name: "./boot/config-6.1", Data: []byte("config")},
			{Name: "./boot/System.map-6.1", Data: []byte("map")},
			{Name: "./etc/passwd", Data: []byte("no")},
			{Name: lib + "modules/6.1/kernel/a.ko", Data: []byte("a")},
			{Name: lib + "modules/6.1/build", Link: "/usr/src"},
		})
		if err != nil || release != "6.1" {
			t.Fatalf("release %q, %v", release, err)
		}
		var got []string
		_ = filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				rel, _ := filepath.Rel(dir, p)
				got = append(got, rel)
			}
			return err
		})
		if strings.Join(got, " ") != "config modules/6.1/kernel/a.ko vmlinuz" {
			t.Errorf("unpacked %q", got)
		}
	}
}

func TestUnpackDebStaysInItsDirectory(t *testing.T) {
	dir, _, err := unpackForTest(t, []kerneltest.File{
		{Name: "./boot/vmlinuz-6.1", Data: []byte("image")},
		{Name: "./lib/modules/6.1/a.ko", Data: []byte("a")},
		{Name: "./lib/modules/../../escaped", Data: []byte("x")},
		{Name: "./lib/modules/6.1/../../../../escaped", Data: []byte("x")},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(dir), "escaped")); err == nil {
		t.Error("a file escaped")
	}
}

func TestUnpackDebRefuses(t *testing.T) {
	image := kerneltest.File{Name: "./boot/vmlinuz-6.1", Data: []byte("image")}
	module := kerneltest.File{Name: "./lib/modules/6.1/a.ko", Data: []byte("a")}
	for name, test := range map[string]struct {
		files []kerneltest.File
		says  string
	}{
		"no kernel":        {[]kerneltest.File{module}, "not a kernel package"},
		"no modules":       {[]kerneltest.File{image}, "no modules for its kernel 6.1"},
		"two kernels":      {[]kerneltest.File{image, {Name: "./boot/vmlinuz-6.2"}, module}, "two kernels"},
		"one module twice": {[]kerneltest.File{image, module, module}, "twice"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := unpackForTest(t, test.files)
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want %q", err, test.says)
			}
		})
	}
}

func TestWithoutAgent(t *testing.T) {
	_, err := testStore(t, t.TempDir(), &archive{}, "").Default(t.Context(), nil)
	if banger.KindOf(err) != banger.KindUnavailable || banger.NextOf(err) != "run make build" {
		t.Errorf("got %v, next %q", err, banger.NextOf(err))
	}
}
