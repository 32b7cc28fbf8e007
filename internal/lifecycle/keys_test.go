package lifecycle_test

import (
	"os"
	"path/filepath"
	"testing"

	"banger.dev/banger/internal/lifecycle"
	"banger.dev/banger/internal/paths"
)

func TestKeysStayAndAreMadeAgainWhenDamaged(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.create("a")
		files := w.layout.VM(w.row("a").ID)
		first := read(t, files.SSHKey())
		if _, _, err := w.Start(t.Context(), "a", lifecycle.StartOptions{}, nil); err != nil {
			t.Fatal(err)
		}
		if read(t, files.SSHKey()) != first {
			t.Error("a start has changed the key")
		}
		if _, _, err := w.Kill(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		// A crash of the host may leave files without their bytes.
		if err := os.Truncate(files.SSHHostKey(), 0); err != nil {
			t.Fatal(err)
		}
		if _, _, err := w.Start(t.Context(), "a", lifecycle.StartOptions{}, nil); err != nil {
			t.Fatal(err)
		}
		if read(t, files.SSHKey()) == first || read(t, files.SSHHostKey()) == "" {
			t.Error("damaged keys were kept")
		}
		w.delete("a")
	})
}

func TestTheDaemonSweepsAndRestoresTheLinksOfKeys(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.create("a")
		before := w.String()
		ssh := w.layout.SSH()
		for _, err := range []error{
			os.Remove(w.layout.SSHLink("a")),
			os.Symlink("../vms/0123456789abcdef/ssh", w.layout.SSHLink("gone")),
			os.Symlink("../vms/0123456789abcdef/ssh", filepath.Join(ssh, ".0123456789abcdef")),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := w.restart(); err != nil {
			t.Fatal(err)
		}
		w.same(before)
		if _, err := os.Lstat(filepath.Join(ssh, ".0123456789abcdef")); err == nil {
			t.Error("a cut-off link is still there")
		}
	})
}

func TestAVMOfAnEarlierVersionGetsKeysWhenItStarts(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.create("a")
		before := w.String()
		files := w.layout.VM(w.row("a").ID)
		if err := os.RemoveAll(files.SSH()); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(w.layout.SSHLink("a")); err != nil {
			t.Fatal(err)
		}
		if _, _, err := w.Start(t.Context(), "a", lifecycle.StartOptions{}, nil); err != nil {
			t.Fatal(err)
		}
		if _, _, err := w.Kill(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		w.same(before)
		checkPrivate(t, files)
	})
}

func checkPrivate(t testing.TB, files paths.VM) {
	t.Helper()
	for _, file := range []string{files.SSHHostKey(), files.SSHKey()} {
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", file, info, err)
		}
	}
}

func read(t testing.TB, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
