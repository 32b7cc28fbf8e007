package du

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"banger.dev/banger"
)

// tree has a sparse file, a hard link, a symbolic link and an empty directory.
func tree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, size int) {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("a/one", 100_000)
	write("a/sparse", 10)
	write("b/c/two", 3)
	for _, err := range []error{
		os.Truncate(filepath.Join(dir, "a/sparse"), 1<<30),
		os.Link(filepath.Join(dir, "a/one"), filepath.Join(dir, "b/again")),
		os.Symlink("a", filepath.Join(dir, "link")),
		os.Mkdir(filepath.Join(dir, "empty"), 0o700),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestTreeIsWhatDuSays(t *testing.T) {
	dir := tree(t)
	out, err := exec.Command("du", "-s", "--block-size=1", dir).Output()
	if err != nil {
		t.Fatal(err)
	}
	want, err := strconv.ParseInt(strings.Fields(string(out))[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	var c Counter
	if got, err := c.Tree(dir); err != nil || got != banger.Bytes(want) {
		t.Errorf("%d bytes, %v; du says %d", got, err, want)
	}
}

func TestPartsAddUpToTheWhole(t *testing.T) {
	dir := tree(t)
	var whole, parts Counter
	want, err := whole.Tree(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got banger.Bytes
	for _, part := range []string{"b", "a/one", "a", "absent", "b", ""} {
		n, err := parts.Tree(filepath.Join(dir, part))
		if err != nil {
			t.Errorf("%s: %v", part, err)
		}
		got += n
	}
	if got != want {
		t.Errorf("the parts are %d bytes, the whole %d", got, want)
	}
}
