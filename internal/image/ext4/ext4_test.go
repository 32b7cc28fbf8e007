package ext4_test

import (
	"archive/tar"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"banger.dev/banger"
	"banger.dev/banger/internal/image/ext4"
	"banger.dev/banger/internal/image/layer"
	"banger.dev/banger/internal/userns"
)

// need skips a test where a program is missing, and fails it under CI.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := userns.Find(p, p); err == nil {
			continue
		}
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is not installed", p)
		}
		t.Skipf("%s is not installed", p)
	}
}

// run is the output of an e2fsprogs program, which must succeed.
func run(t *testing.T, program string, args ...string) string {
	t.Helper()
	path, err := userns.Find(program, "e2fsprogs")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	var complaints strings.Builder
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", program, args, err, out, complaints.String())
	}
	return string(out)
}

// only fails if anything but these names is in dir.
func only(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(names, " ") {
		t.Errorf("%s holds %q, not %q", dir, got, names)
	}
}

// allocated is what a file takes on the host's disk.
func allocated(t *testing.T, path string) banger.Bytes {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return banger.Bytes(st.Blocks) * 512
}

func TestEmptyIsSparseCleanAndGrowable(t *testing.T) {
	need(t, "mke2fs", "e2fsck", "dumpe2fs", "resize2fs")
	dir := t.TempDir()
	path := filepath.Join(dir, "disk.ext4")
	if err := ext4.Empty(t.Context(), path, ext4.Options{Size: 20 * banger.GiB, Label: "some-label"}); err != nil {
		t.Fatal(err)
	}
	only(t, dir, "disk.ext4")
	if got := allocated(t, path); got > 6*banger.MiB {
		t.Errorf("an empty file system of 20 GiB takes %s", got)
	}
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if st.Size() != int64(20*banger.GiB) || st.Mode() != 0o644 {
		t.Errorf("size %d, mode %v", st.Size(), st.Mode())
	}
	run(t, "e2fsck", "-fn", path)
	about := run(t, "dumpe2fs", "-h", path)
	for _, want := range []string{"some-label", "has_journal", "resize_inode", "Reserved block count:     0"} {
		if !strings.Contains(about, want) {
			t.Errorf("not %q:\n%s", want, about)
		}
	}
	if err := os.Truncate(path, int64(100*banger.GiB)); err != nil {
		t.Fatal(err)
	}
	run(t, "resize2fs", path)
	run(t, "e2fsck", "-fn", path)
}

func TestReadOnlyHasNoJournal(t *testing.T) {
	need(t, "mke2fs", "e2fsck", "dumpe2fs")
	path := filepath.Join(t.TempDir(), "disk.ext4")
	if err := ext4.Empty(t.Context(), path, ext4.Options{Size: 8 * banger.GiB, ReadOnly: true}); err != nil {
		t.Fatal(err)
	}
	run(t, "e2fsck", "-fn", path)
	if got := run(t, "dumpe2fs", "-h", path); strings.Contains(got, "has_journal") {
		t.Error("a read-only disk has a journal")
	}
	if got := allocated(t, path); got > 1*banger.MiB {
		t.Errorf("an empty file system of 8 GiB takes %s", got)
	}
}

func TestFailureLeavesNothing(t *testing.T) {
	need(t, "mke2fs")
	dir := t.TempDir()
	large := archive(t, member{tar.Header{Name: "large", Mode: 0o644}, strings.Repeat("y", 64<<20)})
	_, err := ext4.FromTar(t.Context(), filepath.Join(dir, "x.ext4"), large, layer.DefaultLimits(), ext4.Options{Size: 16 * banger.MiB})
	if banger.KindOf(err) != banger.KindInvalid {
		t.Errorf("64 MiB in 16 MiB: %v", err)
	}
	if err := ext4.Empty(t.Context(), filepath.Join(dir, "y.ext4"), ext4.Options{}); banger.KindOf(err) != banger.KindInvalid {
		t.Errorf("no size: %v", err)
	}
	only(t, dir)
}

func TestSweepRemovesOnlyWhatWasHalfMade(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{".disk.ext4.123.tmp", ".disk.ext4x", "disk.ext4", "other"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := ext4.Sweep(filepath.Join(dir, "disk.ext4")); err != nil {
		t.Fatal(err)
	}
	only(t, dir, ".disk.ext4x", "disk.ext4", "other")
}
