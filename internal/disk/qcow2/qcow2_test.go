package qcow2_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"banger.dev/banger"
	"banger.dev/banger/internal/disk"
	"banger.dev/banger/internal/disk/disktest"
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

func run(t *testing.T, tool string, args ...string) []byte {
	t.Helper()
	path, err := exec.LookPath(tool)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is missing: apt-get install qemu-utils", tool)
		}
		t.Skipf("%s is missing", tool)
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	if err != nil || strings.Contains(string(out), "verification failed") {
		t.Fatalf("%s %v: %v\n%s", tool, args, err, out)
	}
	return out
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

func TestSuite(t *testing.T) {
	disktest.Suite(t, disktest.Subject{
		Driver: qcow2.Driver{},
		Write: func(t *testing.T, a disk.Attached, at int64, data []byte) {
			file := filepath.Join(t.TempDir(), "data")
			if err := os.WriteFile(file, data, 0o600); err != nil {
				t.Fatal(err)
			}
			run(t, "qemu-io", "-f", a.Format, "-c", fmt.Sprintf("write -s %s %d %d", file, at, len(data)), a.Path)
			run(t, "qemu-img", "check", "-f", a.Format, a.Path)
		},
		Read: func(t *testing.T, a disk.Attached, at int64, n int) []byte {
			file := filepath.Join(t.TempDir(), "data")
			run(t, "qemu-img", "dd", "-f", a.Format, "-O", "raw", fmt.Sprintf("bs=%d", n), fmt.Sprintf("skip=%d", at/int64(n)),
				fmt.Sprintf("count=%d", at/int64(n)+1), "if="+a.Path, "of="+file)
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			return data
		},
		Size: func(t *testing.T, a disk.Attached) banger.Bytes {
			var info struct {
				Size banger.Bytes `json:"virtual-size"`
			}
			if err := json.Unmarshal(run(t, "qemu-img", "info", "-f", a.Format, "--output=json", a.Path), &info); err != nil {
				t.Fatal(err)
			}
			return info.Size
		},
	})
}

// QEMU moves the table when it grows an image itself, to a cluster that may have
// held something else.
func TestGrowAfterQEMUHasGrownIt(t *testing.T) {
	b := base(t, banger.GiB)
	path := filepath.Join(t.TempDir(), "overlay.qcow2")
	if err := (qcow2.Driver{}).Create(t.Context(), b, path, banger.GiB); err != nil {
		t.Fatal(err)
	}
	run(t, "qemu-io", "-f", "qcow2", "-c", "write -P 255 0 64M", "-c", "discard 0 64M", path)
	run(t, "qemu-img", "resize", "-f", "qcow2", path, "5G")
	if err := (qcow2.Driver{}).Grow(t.Context(), path, 300*banger.GiB); err != nil {
		t.Fatal(err)
	}
	run(t, "qemu-io", "-f", "qcow2", "-c", "read -P 0 4G 1M", "-c", "read -P 0 299G 1M", "-c", "write -P 7 299G 1M", path)
	run(t, "qemu-img", "check", "-f", "qcow2", path)
}

func TestWhatIsNoSoundOverlayIsNotGrown(t *testing.T) {
	good := filepath.Join(t.TempDir(), "overlay.qcow2")
	if err := (qcow2.Driver{}).Create(t.Context(), base(t, banger.GiB), good, banger.GiB); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	for name, at := range map[string]int{"magic": 0, "version": 7, "cluster size": 23, "offset of the table": 47, "size of the table": 36, "features": 79} {
		bad := bytes.Clone(content)
		bad[at] ^= 0x40
		path := filepath.Join(t.TempDir(), "bad")
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := (qcow2.Driver{}).Grow(t.Context(), path, 2*banger.GiB); err == nil {
			t.Errorf("one with another %s was grown", name)
		}
		if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, bad) {
			t.Errorf("%s: it was changed: %v", name, err)
		}
	}
	if err := os.WriteFile(good, content[:60], 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (qcow2.Driver{}).Grow(t.Context(), good, 2*banger.GiB); err == nil {
		t.Error("one that was cut off was grown")
	}
}
