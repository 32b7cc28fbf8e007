package kernel_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"banger.dev/banger"
	"banger.dev/banger/internal/apt"
	"banger.dev/banger/internal/kernel"
	"banger.dev/banger/internal/paths"
)

// A kernel of Ubuntu's comes from a signed archive of its form, by apt, in two
// packages; from one that others have signed nothing comes.
func TestPullFromUbuntusArchive(t *testing.T) {
	if _, err := exec.LookPath("apt-get"); err != nil {
		need(t, "%v", err)
	}
	for _, k := range []string{"http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"} {
		t.Setenv(k, "")
	}
	archive := httptest.NewServer(http.FileServer(http.Dir("testdata/ubuntu")))
	defer archive.Close()
	keyring, err := filepath.Abs("testdata/ubuntu/keyring.gpg")
	if err != nil {
		t.Fatal(err)
	}
	layout, log := paths.Layout{Cache: t.TempDir()}, slog.New(slog.DiscardHandler)
	sources := apt.Sources{Mirror: archive.URL, Security: archive.URL, Keyring: keyring}
	store := kernel.New(layout, nil, kernel.NewAgent([]byte("agent")), log)
	store.Archives = func(r kernel.Release) kernel.Packages { return apt.New(layout.Apt(), r.Suite, sources, log) }

	k, changed, err := store.Pull(t.Context(), "ubuntu", nil)
	if err != nil || !changed {
		t.Fatalf("%+v, %t, %v", k, changed, err)
	}
	if k.Name != "ubuntu-noble" || k.Release != "6.8.0-31-generic" || k.ModuleCount != 4 || k.Default ||
		k.Source != "ubuntu noble linux-image-6.8.0-31-generic 6.8.0-31.31" {
		t.Errorf("%+v", k)
	}
	if again, changed, err := store.Pull(t.Context(), "ubuntu:noble", nil); err != nil || changed || again != k {
		t.Errorf("again: %+v, %t, %v", again, changed, err)
	}

	sources.Keyring, err = filepath.Abs("../apt/testdata/keyring.gpg")
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = store.Pull(t.Context(), "ubuntu", nil)
	if banger.KindOf(err) != banger.KindUnavailable || !strings.Contains(err.Error(), "is not signed by the keys") {
		t.Errorf("signed by others: %v", err)
	}
}
