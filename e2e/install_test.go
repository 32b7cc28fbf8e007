package e2e

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestInstall goes from the source to an installed banger and back, in a copy of
// the checkout, so that bin/ stays as it is for the other tests.
func TestInstall(t *testing.T) {
	needsPrograms(t, "make", "dpkg", "dpkg-deb", "mandoc", "lintian")
	first := copyCheckout(t)
	first.make(t, "077", "build")
	t.Run("tree", func(t *testing.T) { testInstalledTree(t, first) })
	t.Run("inventory", func(t *testing.T) { testInventory(t, first) })
	t.Run("manual", func(t *testing.T) { testManual(t, first) })
	t.Run("package", func(t *testing.T) { testPackage(t, first) })
	t.Run("reproducible", func(t *testing.T) { testReproducible(t, first) })
}

// source is a copy of the checkout, without its history.
type source struct{ dir string }

// copyCheckout copies what git sees of the checkout to a directory of its own.
func copyCheckout(t *testing.T) source {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "bng-source-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	mustRun(t, "sh", "-c", `cd .. && git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$1"`, "sh", dir)
	return source{dir}
}

// make runs make in the copy, under this umask.
func (s source) make(t *testing.T, umask string, args ...string) string {
	t.Helper()
	out, err := s.try(umask, args...)
	if err != nil {
		t.Fatalf("make %v: %v\n%s", args, err, out)
	}
	return out
}

func (s source) try(umask string, args ...string) (string, error) {
	cmd := exec.Command("sh", append([]string{"-c", `umask "$1" && shift && exec make -s "$@"`, "sh", umask}, args...)...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "VERSION=1.2.3", "SOURCE_DATE_EPOCH=1000000000")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// needsPrograms skips a test that lacks programs; in CI it fails.
func needsPrograms(t *testing.T, programs ...string) {
	t.Helper()
	for _, name := range programs {
		if _, err := exec.LookPath(name); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
}

// treeOf is what is below dir: a line for each path, with mode, time and content.
func treeOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		all[name] = info.Mode().String()
		if info.Mode().IsRegular() {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			all[name] += fmt.Sprintf(" %s %x", info.ModTime().Format(time.RFC3339Nano), sha256.Sum256(content))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func wantTree(t *testing.T, what string, got, want map[string]string) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if want[name] == "" {
			t.Errorf("%s: %s is new", what, name)
		} else if got[name] != want[name] {
			t.Errorf("%s: %s is %s, was %s", what, name, got[name], want[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] == "" {
			t.Errorf("%s: %s is gone", what, name)
		}
	}
}

// placeFile writes a file and makes its directory.
func placeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// installed are those of the files that every install has; documents and a page
// for each verb are beside them.
func installed() []string {
	return []string{
		"bin/banger", "bin/bangerd",
		"share/bash-completion/completions/banger", "share/zsh/site-functions/_banger", "share/fish/vendor_completions.d/banger.fish",
		"share/man/man1/banger.1.gz", "share/man/man1/banger-vm-run.1.gz", "share/man/man1/banger-daemon-status.1.gz", "share/man/man1/bangerd.1.gz",
		"share/doc/banger/README.md", "share/doc/banger/LICENSE", "share/doc/banger/libraries.gz", "share/doc/banger/docs/exec.md",
	}
}

// testInstalledTree: install puts its files there with their modes, a second one
// changes nothing, and uninstall leaves what was there before.
func testInstalledTree(t *testing.T, s source) {
	dest := filepath.Join(t.TempDir(), "a b")
	prefix := filepath.Join(dest, "usr", "local")
	args := []string{"DESTDIR=" + dest, "PREFIX=/usr/local"}
	placeFile(t, prefix+"/bin/other", "somebody else's")
	placeFile(t, prefix+"/share/man/man1/other.1", "somebody else's")
	if err := os.MkdirAll(prefix+"/share/zsh", 0o755); err != nil { // empty, and not ours
		t.Fatal(err)
	}
	before := treeOf(t, dest)

	if out := s.make(t, "077", append(args, "uninstall")...); !strings.Contains(out, "not installed") {
		t.Errorf("uninstall of nothing: %s", out)
	}
	wantTree(t, "uninstall of nothing", treeOf(t, dest), before)

	s.make(t, "077", append(args, "install")...)
	after := treeOf(t, prefix)
	for _, name := range installed() {
		mode := "-rw-r--r--"
		if strings.HasPrefix(name, "bin/") {
			mode = "-rwxr-xr-x"
		}
		if !strings.HasPrefix(after[name], mode) {
			t.Errorf("%s is %q, not %s", name, after[name], mode)
		}
	}
	if mode := after["share/man"]; mode != "drwxr-xr-x" {
		t.Errorf("a new directory is %s", mode)
	}
	out, err := exec.Command(prefix+"/bin/banger", "--version").CombinedOutput()
	if err != nil || string(out) != "banger 1.2.3\n" {
		t.Errorf("installed: %q, %v", out, err)
	}
	s.make(t, "022", append(args, "install")...)
	wantTree(t, "second install", treeOf(t, prefix), after)

	placeFile(t, prefix+"/share/doc/banger/docs/notes", "the user's")
	placeFile(t, prefix+"/bin/banger.new~", "cut off")
	s.make(t, "077", append(args, "uninstall")...)
	if err := os.RemoveAll(prefix + "/share/doc"); err != nil { // it kept the user's file
		t.Fatal(err)
	}
	wantTree(t, "uninstall", treeOf(t, dest), before)
}

// testInventory: what an earlier install had is removed, half an install can be
// undone, and an inventory that leads elsewhere is not followed.
func testInventory(t *testing.T, s source) {
	dest := t.TempDir()
	for _, target := range []string{"install", "uninstall"} {
		if out, err := s.try("022", "PREFIX=p", target); err == nil || !strings.Contains(out, "absolute") {
			t.Errorf("%s to a relative prefix: %v %s", target, err, out)
		}
	}
	args := []string{"DESTDIR=" + dest, "PREFIX=/p"}
	inventory := dest + "/p/share/doc/banger/inventory"
	placeFile(t, inventory, "share/man/man1/\nshare/man/man1/banger-old.1.gz\n")
	placeFile(t, dest+"/p/share/man/man1/banger-old.1.gz", "of an earlier version")
	s.make(t, "022", append(args, "install")...)
	content, err := os.ReadFile(inventory)
	if err != nil || strings.Contains(string(content), "banger-old") || treeOf(t, dest)["p/share/man/man1/banger-old.1.gz"] != "" {
		t.Errorf("the earlier version's page is there: %v\n%s", err, content)
	}
	for _, name := range []string{"bin/banger", "share/man/man1/banger.1.gz"} { // as if not all had been placed
		if err := os.Remove(filepath.Join(dest, "p", name)); err != nil {
			t.Fatal(err)
		}
	}
	s.make(t, "022", append(args, "uninstall")...)
	for name, mode := range treeOf(t, dest+"/p") {
		if !strings.HasPrefix(mode, "d") {
			t.Errorf("%s is left", name)
		}
	}

	placeFile(t, dest+"/outside", "not banger's")
	placeFile(t, inventory, "bin/../../outside\n")
	before := treeOf(t, dest)
	for _, target := range []string{"install", "uninstall"} {
		if out, err := s.try("022", append(args, target)...); err == nil || !strings.Contains(out, "outside of") {
			t.Errorf("%s followed a bad inventory: %v %s", target, err, out)
		}
	}
	wantTree(t, "bad inventory", treeOf(t, dest), before)
}

// testManual: every page is well formed.
func testManual(t *testing.T, s source) {
	dest := t.TempDir()
	s.make(t, "022", "DESTDIR="+dest, "PREFIX=/usr", "install")
	mustRun(t, "gunzip", "-r", dest+"/usr/share/man")
	pages, err := filepath.Glob(dest + "/usr/share/man/man1/*.1")
	if err != nil || len(pages) < 20 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	if out, err := exec.Command("mandoc", append([]string{"-T", "lint", "-W", "warning"}, pages...)...).CombinedOutput(); err != nil {
		t.Errorf("mandoc: %v\n%s", err, out)
	}
	out, err := exec.Command("mandoc", "-T", "ascii", dest+"/usr/share/man/man1/banger-vm-run.1").Output()
	if err != nil || !bytes.Contains(out, []byte("banger run --rm . -- make test")) {
		t.Errorf("banger-vm-run: %v\n%s", err, out)
	}
}

// testPackage: the package holds what make install installs, Debian's places
// apart, and dpkg installs and purges it.
func testPackage(t *testing.T, s source) {
	s.make(t, "077", "deb")
	deb := filepath.Join(s.dir, "bin", "banger.deb")
	dest := t.TempDir()
	s.make(t, "022", "DESTDIR="+dest, "PREFIX=/usr", "install")
	want := treeOf(t, dest)
	delete(want, "usr/share/doc/banger/inventory")
	delete(want, "usr/share/doc/banger/LICENSE")
	for name, other := range map[string]string{
		"usr/share/zsh/site-functions":         "usr/share/zsh/vendor-completions",
		"usr/share/zsh/site-functions/_banger": "usr/share/zsh/vendor-completions/_banger",
	} {
		want[other] = want[name]
		delete(want, name)
	}
	root := t.TempDir()
	mustRun(t, "dpkg-deb", "-x", deb, root)
	got := treeOf(t, root)
	for _, debians := range []string{"doc/banger/copyright", "doc/banger/changelog.gz", "lintian", "lintian/overrides", "lintian/overrides/banger"} {
		if got["usr/share/"+debians] == "" {
			t.Errorf("the package has no %s", debians)
		}
		delete(got, "usr/share/"+debians)
	}
	withoutTimes := func(all map[string]string) map[string]string {
		for name, line := range all {
			if f := strings.Fields(line); len(f) == 3 {
				all[name] = f[0] + " " + f[2]
			}
		}
		delete(all, ".")
		return all
	}
	wantTree(t, "package", withoutTimes(got), withoutTimes(want))
	testLintian(t, deb)

	field := func(name string) string {
		out, err := exec.Command("dpkg-deb", "-f", deb, name).Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
	if v := field("Version"); v != "1.2.3" {
		t.Errorf("version %s", v)
	}
	for name, wants := range map[string][]string{
		"Depends":    {"qemu-system-x86", "mmdebstrap", "debian-archive-keyring", "uidmap", "e2fsprogs"},
		"Recommends": {"git", "openssh-client"},
	} {
		for _, want := range wants {
			if !slices.Contains(strings.Split(field(name), ", "), want) {
				t.Errorf("%s: %s has no %s", name, field(name), want)
			}
		}
	}
	if os.Getuid() == 0 {
		testDpkg(t, deb)
	}
}

// testLintian: Debian's own judge of packages has nothing to say beyond what the
// package overrides, with its reasons.
func testLintian(t *testing.T, deb string) {
	t.Helper()
	out, err := exec.Command("lintian", "--allow-root", "--tag-display-limit", "0", "--fail-on", "error,warning", deb).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("lintian: %v\n%s", err, out)
	}
}

// testDpkg has dpkg install the package into a root of its own, and purge it.
func testDpkg(t *testing.T, deb string) {
	root := t.TempDir()
	admin := filepath.Join(root, "var", "lib", "dpkg")
	placeFile(t, admin+"/status", "")
	placeFile(t, admin+"/info/format", "1\n")
	if err := os.Mkdir(admin+"/updates", 0o755); err != nil {
		t.Fatal(err)
	}
	before := treeOf(t, root)
	dpkg := func(args ...string) {
		t.Helper()
		cmd := exec.Command("dpkg", append([]string{"--root=" + root, "--log=/dev/null", "--force-depends", "--force-bad-path"}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("dpkg %v: %v\n%s", args, err, out)
		}
	}
	dpkg("-i", deb)
	out, err := exec.Command(root+"/usr/bin/banger", "--version").CombinedOutput()
	if err != nil || string(out) != "banger 1.2.3\n" {
		t.Errorf("from the package: %q, %v", out, err)
	}
	dpkg("-P", "banger")
	for name := range treeOf(t, root) {
		if before[name] == "" && !strings.HasPrefix(name, "var/lib/dpkg") {
			t.Errorf("purge leaves %s", name)
		}
	}
}

// testReproducible builds again elsewhere, later and under another umask. All
// that go looks at to tell whether a package must be compiled anew is different
// then if it could be seen in the result, so the build cache may be shared.
func testReproducible(t *testing.T, first source) {
	second := copyCheckout(t)
	second.make(t, "002", "deb")
	first.make(t, "077", "deb")
	for _, name := range []string{"banger", "bangerd", "banger-agent", "banger.deb"} {
		one, err1 := os.ReadFile(filepath.Join(first.dir, "bin", name))
		other, err2 := os.ReadFile(filepath.Join(second.dir, "bin", name))
		if err1 != nil || err2 != nil || !bytes.Equal(one, other) {
			t.Errorf("%s is not the same twice: %d and %d bytes, %v, %v", name, len(one), len(other), err1, err2)
		}
		if bytes.Contains(one, []byte(first.dir)) {
			t.Errorf("%s names the directory that it was built in", name)
		}
	}
}
