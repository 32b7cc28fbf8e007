package image_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"banger.dev/banger"
	"banger.dev/banger/internal/image"
	"banger.dev/banger/internal/image/debian"
	"banger.dev/banger/internal/paths"
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

// debugfs is the output of one debugfs request.
func debugfs(t *testing.T, fs, request string) string {
	t.Helper()
	program, err := userns.Find("debugfs", "e2fsprogs")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(program, "-R", request, fs).Output()
	if err != nil {
		t.Fatalf("debugfs %s: %v", request, err)
	}
	return string(out)
}

// The image is made once for a machine, in a cache that all tests share.
func TestDebian(t *testing.T) {
	need(t, "mmdebstrap", "mke2fs", "debugfs", "e2fsck")
	if err := userns.Check(); err != nil && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Skip(err)
	}
	store := image.New(paths.Layout{Cache: filepath.Join(cache, "banger-test")}, nil)
	img, err := store.Resolve(t.Context(), banger.DefaultImage, func(p banger.Progress) { t.Log(p.Message) })
	if err != nil {
		t.Fatal(err)
	}
	t.Log(img.RootFS)
	fsck, _ := userns.Find("e2fsck", "e2fsprogs")
	if out, err := exec.Command(fsck, "-fn", img.RootFS).CombinedOutput(); err != nil {
		t.Fatalf("e2fsck: %v\n%s", err, out)
	}
	if img.Init != "/sbin/init" || img.Size != banger.DefaultDisk || img.Name != banger.DefaultImage {
		t.Errorf("manifest: %+v", img)
	}
	installed := debugfs(t, img.RootFS, "cat /var/lib/dpkg/status")
	for _, p := range debian.Packages() {
		if !strings.Contains(installed, "Package: "+p+"\n") {
			t.Errorf("package %s is not installed", p)
		}
	}
	for _, f := range []string{"/etc/hostname", "/etc/machine-id", "/etc/resolv.conf"} {
		if stat := debugfs(t, img.RootFS, "stat "+f); !strings.Contains(stat, "Type: regular    Mode:  0644") || !strings.Contains(stat, "Size: 0\n") {
			t.Errorf("%s is not an empty file:\n%s", f, stat)
		}
	}
	for dir, want := range map[string]string{"/usr/share/man": "", "/usr/share/locale": "locale.alias", "/var/lib/apt/lists": "", "/var/cache/apt": ""} {
		for name := range strings.FieldsSeq(debugfs(t, img.RootFS, "ls -p "+dir)) {
			if base := strings.Split(name, "/")[5]; !slices.Contains([]string{".", "..", want, "lock", "partial"}, base) {
				t.Errorf("%s is left in %s", base, dir)
			}
		}
	}
	if shadow := debugfs(t, img.RootFS, "cat /etc/shadow"); !strings.Contains("\n"+shadow, "\nroot:*:") {
		t.Error("root has a password")
	}
}
