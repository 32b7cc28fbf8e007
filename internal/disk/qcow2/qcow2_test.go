package qcow2_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"banger.dev/banger"
	"banger.dev/banger/internal/disk"
	"banger.dev/banger/internal/disk/qcow2"
)

func base(t *testing.T, size banger.Bytes) disk.Base {
	t.Helper()
	path := filepath.Join(t.TempDir(), "base")
	if err := os.WriteFile(path, bytes.Repeat([]byte("base"), 1024), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, int64(size)); err != nil {
		t.Fatal(err)
	}
	return disk.Base{Path: path, Size: size}
}

func run(t *testing.T, tool string, args ...string) {
	t.Helper()
	path, err := exec.LookPath(tool)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is missing: apt-get install qemu-utils", tool)
		}
		t.Skipf("%s is missing", tool)
	}
	if out, err := exec.Command(path, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", tool, args, err, out)
	}
}

func TestQEMUFindsAnEmptyOverlaySound(t *testing.T) {
	for _, size := range []banger.Bytes{banger.GiB, 20 * banger.GiB, 16 * banger.TiB} {
		t.Run(size.String(), func(t *testing.T) {
			b := base(t, banger.GiB)
			path := filepath.Join(t.TempDir(), "overlay.qcow2")
			if err := (qcow2.Driver{}).Create(t.Context(), b, path, size); err != nil {
				t.Fatal(err)
			}
			run(t, "qemu-img", "check", "-f", "qcow2", path)
			raw := filepath.Join(t.TempDir(), "read")
			run(t, "qemu-img", "dd", "-f", "qcow2", "-O", "raw", "bs=4096", "count=1", "if="+path, "of="+raw)
			got, err := os.ReadFile(raw)
			if err != nil {
				t.Fatal(err)
			}
			if want := bytes.Repeat([]byte("base"), 1024); !bytes.Equal(got, want) {
				t.Errorf("the overlay does not show its base: %q…", got[:16])
			}
		})
	}
}

func TestOverlayTakesWritesAndStaysSound(t *testing.T) {
	b := base(t, banger.GiB)
	path := filepath.Join(t.TempDir(), "overlay.qcow2")
	if err := (qcow2.Driver{}).Create(t.Context(), b, path, 20*banger.GiB); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(b.Path)
	if err != nil {
		t.Fatal(err)
	}
	run(t, "qemu-io", "-f", "qcow2", "-c", "write -P 65 0 1M", "-c", "write -P 66 19G 4k", "-c", "read -P 65 0 1M", "-c", "read -P 0 512M 4k", path)
	run(t, "qemu-img", "check", "-f", "qcow2", path)
	after, err := os.Stat(b.Path)
	if err != nil {
		t.Fatal(err)
	}
	if !before.ModTime().Equal(after.ModTime()) {
		t.Error("a write to the overlay reached the base")
	}
}

func TestEmptyOverlayTakesLittleSpace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "overlay.qcow2")
	if err := (qcow2.Driver{}).Create(t.Context(), base(t, banger.GiB), path, 20*banger.GiB); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if used := info.Sys().(*syscall.Stat_t).Blocks * 512; used > 64<<10 {
		t.Errorf("an empty overlay takes %d bytes", used)
	}
}

func TestSmallerThanBaseIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "overlay.qcow2")
	err := (qcow2.Driver{}).Create(t.Context(), base(t, 2*banger.GiB), path, banger.GiB)
	if banger.KindOf(err) != banger.KindInvalid {
		t.Errorf("got %v, want an invalid-value error", err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Error("a refused create left a file")
	}
}

func TestRemoveTwice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "overlay.qcow2")
	if err := (qcow2.Driver{}).Create(t.Context(), base(t, banger.GiB), path, banger.GiB); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := (qcow2.Driver{}).Remove(path); err != nil {
			t.Error(err)
		}
	}
}
