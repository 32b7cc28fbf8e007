package debian

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"banger.dev/banger"
	"banger.dev/banger/internal/apt"
	"banger.dev/banger/internal/userns"
)

func needBootstrap(t *testing.T) {
	t.Helper()
	_, err := userns.Find("mmdebstrap", "mmdebstrap")
	if err = errors.Join(err, userns.Check()); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

func builder(mirror string) Builder {
	s := apt.Sources{Mirror: mirror, Security: apt.DefaultSecurity, Keyring: apt.DefaultKeyring}
	return Builder{Suite: Stable, Sources: func() apt.Sources { return s }}
}

func TestKeyFollowsWhatIsMade(t *testing.T) {
	a := builder("http://deb.debian.org/debian").Key()
	if b := builder("http://deb.debian.org/debian/").Key(); b != a {
		t.Error("a slash at the end is another image")
	}
	if b := builder("http://mirror.example/debian").Key(); b == a {
		t.Error("another mirror is the same image")
	}
	more := builder("http://deb.debian.org/debian")
	more.More = []string{"tmux"}
	other := builder("http://deb.debian.org/debian")
	other.Suite = "bookworm"
	if a == more.Key() || a == other.Key() {
		t.Error("other packages or another suite are the same image")
	}
}

func TestStagesAreReported(t *testing.T) {
	var got []string
	s := &stages{suite: "trixie", report: func(p banger.Progress) {
		if p.Stage != "image" || p.Total != 7 || p.Bytes {
			t.Errorf("%+v", p)
		}
		got = append(got, p.Message)
	}}
	said := "I: using /x as tempdir\nI: running apt-get update...\nW: odd\nI: downloading packages with apt...\n" + strings.Repeat("x", 1000) +
		"\nI: extracting archives...\nI: installing essential packages...\nI: installing remaining packages inside the chroot...\n" +
		"I: cleaning package lists and apt cache...\nI: creating tarball...\nI: done\n"
	for chunk := range strings.SplitSeq(said, "a") { // pieces that end in the middle of lines
		if _, err := s.Write([]byte(chunk)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Write([]byte("a")); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"read the package lists", "download packages", "unpack packages", "install the essential packages", "install the other packages", "clean up", "pack"}
	if len(got) != len(want) {
		t.Fatalf("reported %q", got)
	}
	for i := range want {
		if got[i] != "bootstrap Debian trixie: "+want[i] {
			t.Errorf("reported %q", got[i])
		}
	}
}

func TestGuestAsksAnArchiveItCanReach(t *testing.T) {
	for mirror, want := range map[string]string{
		"http://mirror.example/debian":      "http://mirror.example/debian",
		"https://10.1.2.3:8080/debian":      "https://10.1.2.3:8080/debian",
		"http://127.0.0.1:3142/debian":      apt.DefaultMirror,
		"http://localhost/debian":           apt.DefaultMirror,
		"http://[::1]/debian":               apt.DefaultMirror,
		"file:///srv/debian":                apt.DefaultMirror,
		"http://user:secret@mirror/debian":  apt.DefaultMirror,
		"mirror+file:/etc/apt/mirrors.list": apt.DefaultMirror,
	} {
		if got := guestSources(apt.Sources{Mirror: mirror}).Mirror; got != want {
			t.Errorf("%s: %s", mirror, got)
		}
	}
}

// The script runs on a directory that stands for a root.
func TestHooksFinishARoot(t *testing.T) {
	root := t.TempDir()
	for _, f := range []string{
		"etc/hostname", "etc/ssh/ssh_host_rsa_key", "etc/shadow-", "etc/apt/apt.conf.d/99mmdebstrap", "var/log/apt/term.log",
		"var/lib/apt/lists/x", "var/cache/apt/x", "etc/systemd/system/timers.target.wants/apt-daily.timer", "etc/systemd/system/timers.target.wants/other.timer",
	} {
		path := filepath.Join(root, f)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("something"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	mirror := "http://mirror.example/it's $(touch " + root + "/hacked)"
	script := Builder{Suite: Stable}.hooks(apt.Sources{Mirror: mirror, Security: "http://security.example"})
	if err := os.MkdirAll(filepath.Join(root, "var/lib/dpkg"), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("sh", "-c", script, "exec", root).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, f := range []string{"etc/hostname", "etc/machine-id", "etc/resolv.conf"} {
		if st, err := os.Stat(filepath.Join(root, f)); err != nil || st.Size() != 0 || st.Mode() != 0o644 {
			t.Errorf("%s: %v, %v", f, st, err)
		}
	}
	for _, f := range []string{"etc/ssh/ssh_host_rsa_key", "etc/shadow-", "etc/apt/apt.conf.d/99mmdebstrap", "var/log/apt/term.log", "var/lib/apt/lists/x",
		"var/cache/apt/x", "etc/systemd/system/timers.target.wants/apt-daily.timer", "hacked"} {
		if _, err := os.Lstat(filepath.Join(root, f)); err == nil {
			t.Errorf("%s is there", f)
		}
	}
	if _, err := os.Stat(filepath.Join(root, "etc/systemd/system/timers.target.wants/other.timer")); err != nil {
		t.Error(err)
	}
	if to, err := os.Readlink(filepath.Join(root, "etc/systemd/system/getty.target")); err != nil || to != "/dev/null" {
		t.Error(to, err)
	}
	list, err := os.ReadFile(filepath.Join(root, "etc/apt/sources.list"))
	if err != nil || !strings.HasPrefix(string(list), "deb [signed-by="+guestKeyring+"] http://mirror.example/it's $(touch") || strings.Count(string(list), "\n") != 3 {
		t.Errorf("%s, %v", list, err)
	}
}

// Docker keeps its data on the work disk, which has /home.
func TestDockerIsOnTheWorkDisk(t *testing.T) {
	root, b := t.TempDir(), Builder{Suite: Stable, More: []string{"docker.io"}}
	for _, dir := range []string{"etc/apt/apt.conf.d", "etc/systemd/system", "var/log", "var/lib/dpkg"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("sh", "-c", b.hooks(apt.Sources{}), "exec", root).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var settings map[string]string
	content, err := os.ReadFile(filepath.Join(root, "etc/docker/daemon.json"))
	if err == nil {
		err = json.Unmarshal(content, &settings)
	}
	if err != nil || !strings.HasPrefix(settings["data-root"], "/home/") {
		t.Errorf("%s, %v", content, err)
	}
}

func TestMirrorThatDoesNotAnswer(t *testing.T) {
	needBootstrap(t)
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	err := builder(server.URL).Build(t.Context(), t.TempDir(), io.Discard, nil)
	if banger.KindOf(err) != banger.KindUnavailable || banger.NextOf(err) != "curl -fsSI "+server.URL+"/dists/trixie/InRelease" {
		t.Errorf("%v, %s", err, banger.NextOf(err))
	}
	if !strings.Contains(err.Error(), "E: ") || strings.Contains(err.Error(), "I: ") {
		t.Errorf("not what apt said: %v", err)
	}
}

func TestFullDiskIsNotTheMirrorsFault(t *testing.T) {
	if err := userns.Check(); err != nil && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	dir := t.TempDir()
	program := "#!/bin/sh\necho 'E: Write error - write (28: No space left on device)' >&2\nexit 25\n"
	if err := os.WriteFile(filepath.Join(dir, "mmdebstrap"), []byte(program), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	err := builder("http://mirror.example").Build(t.Context(), dir, io.Discard, nil)
	if !errors.Is(err, unix.ENOSPC) || banger.KindOf(err) != banger.KindUnavailable || banger.NextOf(err) != "" {
		t.Errorf("%v, next %s", err, banger.NextOf(err))
	}
}

func TestBuildEndsWithItsContext(t *testing.T) {
	needBootstrap(t)
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan struct{}, 100)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done() // apt is gone
		gone <- struct{}{}
	}))
	defer server.Close()
	if err := builder(server.URL).Build(ctx, t.TempDir(), io.Discard, nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	<-gone
}
