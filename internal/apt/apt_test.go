package apt

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"banger.dev/banger"
)

// repository serves testdata/repo on loopback; change may replace what is sent.
func repository(t *testing.T, change func(path string, body []byte) []byte) string {
	t.Helper()
	files := http.Dir("testdata/repo")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f, err := files.Open(r.URL.Path)
		if err != nil {
			http.NotFound(w, r)
			return
		}
		defer func() { _ = f.Close() }()
		body, err := io.ReadAll(f)
		if err != nil {
			http.NotFound(w, r)
			return
		}
		if change != nil {
			body = change(r.URL.Path, body)
		}
		http.ServeContent(w, r, "", time.Unix(1735689600, 0), bytes.NewReader(body))
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// testRoot is a root of the archive at uri.
func testRoot(t *testing.T, uri string) *Root {
	t.Helper()
	for _, program := range []string{"apt-get", "dpkg-deb"} {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
	for _, k := range []string{"http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"} {
		t.Setenv(k, "")
	}
	keyring, err := filepath.Abs("testdata/keyring.gpg")
	if err != nil {
		t.Fatal(err)
	}
	return New(filepath.Join(t.TempDir(), "apt"), Suite, Sources{Mirror: uri, Security: uri, Keyring: keyring}, slog.New(slog.DiscardHandler))
}

func TestPackageFromSignedArchive(t *testing.T) {
	ctx := t.Context()
	requests := 0
	root := testRoot(t, repository(t, func(path string, body []byte) []byte {
		if strings.HasSuffix(path, ".deb") {
			requests++
		}
		return body
	}))
	if err := root.Update(ctx, nil); err != nil {
		t.Fatal(err)
	}
	meta, err := root.Latest(ctx, "tiny-meta")
	if err != nil {
		t.Fatal(err)
	}
	if len(meta.Depends) != 1 || meta.Depends[0] != "tiny" {
		t.Fatalf("tiny-meta depends on %q", meta.Depends)
	}
	p, err := root.Latest(ctx, "tiny")
	if err != nil {
		t.Fatal(err)
	}
	if p.Version != "1:2.0-1" || strings.Join(p.Depends, " ") != "libc6 other" {
		t.Errorf("got %+v", p)
	}
	var last banger.Progress
	deb, err := root.Download(ctx, p, func(r banger.Progress) { last = r })
	if err != nil {
		t.Fatal(err)
	}
	if !last.Bytes || last.Total != int64(p.Size) {
		t.Errorf("last progress %+v, want bytes of %d", last, p.Size)
	}
	if again, err := root.Download(ctx, p, nil); err != nil || again != deb || requests != 1 {
		t.Errorf("second download: %q, %v, %d requests; want the kept file and 1", again, err, requests)
	}
	if err := os.WriteFile(deb, []byte("damaged"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := root.Download(ctx, p, nil); err != nil || requests != 2 {
		t.Errorf("download over a damaged file: %v, %d requests; want it fetched again", err, requests)
	}
	if err := verify(deb, p); err != nil {
		t.Error(err)
	}
}

func TestUnknownPackageIsNotFound(t *testing.T) {
	root := testRoot(t, repository(t, nil))
	if err := root.Update(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := root.Latest(t.Context(), "no-such-package"); banger.KindOf(err) != banger.KindNotFound {
		t.Errorf("got %v", err)
	}
	for _, name := range []string{"", "-o", "../x", "A", "a b"} {
		if _, err := root.Latest(t.Context(), name); banger.KindOf(err) != banger.KindInvalid {
			t.Errorf("%q: got %v", name, err)
		}
	}
}

func TestForgedArchiveIsRefused(t *testing.T) {
	root := testRoot(t, repository(t, func(path string, body []byte) []byte {
		return bytes.Replace(body, []byte("Label: test"), []byte("Label: evil"), 1)
	}))
	refused(t, root.Update(t.Context(), nil))
	if _, err := root.Latest(t.Context(), "tiny"); err == nil {
		t.Error("a package of a forged list was found")
	}
}

func TestUnsignedArchiveIsRefused(t *testing.T) {
	root := testRoot(t, repository(t, func(path string, body []byte) []byte {
		if !strings.HasSuffix(path, "InRelease") {
			return body
		}
		_, body, _ = bytes.Cut(body, []byte("\n\n"))
		body, _, _ = bytes.Cut(body, []byte("-----BEGIN"))
		return body
	}))
	refused(t, root.Update(t.Context(), nil))
}

func TestTamperedPackageIsRefused(t *testing.T) {
	root := testRoot(t, repository(t, func(path string, body []byte) []byte {
		if strings.HasSuffix(path, ".deb") {
			body[len(body)-1] ^= 1
		}
		return body
	}))
	if err := root.Update(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	p, err := root.Latest(t.Context(), "tiny")
	if err != nil {
		t.Fatal(err)
	}
	_, err = root.Download(t.Context(), p, nil)
	refused(t, err)
	left, _ := filepath.Glob(filepath.Join(root.dir, "*", "*.deb"))
	if len(left) != 0 {
		t.Errorf("left %q", left)
	}
}

func TestUnreachableMirrorIsOneClearLine(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	uri := "http://" + l.Addr().String()
	_ = l.Close()
	err = testRoot(t, uri).Update(t.Context(), nil)
	refused(t, err)
	if err == nil || !strings.Contains(err.Error(), "cannot be reached") || !strings.Contains(err.Error(), uri) {
		t.Errorf("got %v", err)
	}
}

// refused checks for an error of one line that says what to do.
func refused(t *testing.T, err error) {
	t.Helper()
	if banger.KindOf(err) != banger.KindUnavailable || strings.Contains(err.Error(), "\n") || banger.NextOf(err) == "" {
		t.Errorf("got %q (%s), next %q; want one line of kind unavailable and what to do", err, banger.KindOf(err), banger.NextOf(err))
	}
}

func TestMissingKeyring(t *testing.T) {
	root := New(t.TempDir(), Suite, Sources{Mirror: "http://127.0.0.1:1", Security: "http://127.0.0.1:1", Keyring: "/no/such/keyring"}, slog.New(slog.DiscardHandler))
	err := root.Update(t.Context(), nil)
	if banger.KindOf(err) != banger.KindUnavailable || banger.NextOf(err) != "sudo apt-get install debian-archive-keyring" {
		t.Errorf("got %v, next %q", err, banger.NextOf(err))
	}
}

func TestConfigurationTrustsOnlyTheKeyring(t *testing.T) {
	root := New("/cache/apt", Suite, Sources{Mirror: "http://m/debian", Security: "http://s/sec", Proxy: "http://p:1/", Keyring: "/k.gpg"}, nil)
	want := "deb [arch=amd64 signed-by=/k.gpg] http://m/debian trixie main\n" +
		"deb [arch=amd64 signed-by=/k.gpg] http://m/debian trixie-updates main\n" +
		"deb [arch=amd64 signed-by=/k.gpg] http://s/sec trixie-security main\n"
	if got := root.sourcesList(); got != want {
		t.Errorf("sources.list:\n%s", got)
	}
	if c := root.config(); strings.Contains(c, "trusted=yes") || !strings.Contains(c, `Acquire::http::Proxy "http://p:1/";`) {
		t.Errorf("configuration:\n%s", c)
	}
}

func TestLockIsWaitedFor(t *testing.T) {
	keyring, _ := filepath.Abs("testdata/keyring.gpg")
	sources := Sources{Mirror: "http://127.0.0.1:1", Security: "http://127.0.0.1:1", Keyring: keyring}
	base := t.TempDir()
	first := New(base, Suite, sources, slog.New(slog.DiscardHandler))
	held, err := first.lock(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var told []string
	_, err = New(base, Suite, sources, slog.New(slog.DiscardHandler)).lock(ctx, func(p banger.Progress) {
		told = append(told, p.Message)
		cancel()
	})
	if !errors.Is(err, context.Canceled) || strings.Join(told, ",") != "waiting for another download" {
		t.Errorf("second: %v, told %q", err, told)
	}
	_ = held.Close()
	again, err := first.lock(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = again.Close()
}

func TestADownloadThatWasKilledIsLeftOverUntilItIsSwept(t *testing.T) {
	root := New(t.TempDir(), Suite, Sources{}, slog.New(slog.DiscardHandler))
	if left, err := root.Leftovers(t.Context()); err != nil || len(left) != 0 {
		t.Errorf("no root: %v, %v", left, err)
	}
	half := root.path("download-1")
	if err := errors.Join(os.MkdirAll(half, 0o755), os.WriteFile(root.path("lock"), nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	lock, err := os.OpenFile(root.path("lock"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if left, err := root.Leftovers(t.Context()); err != nil || len(left) != 0 {
		t.Errorf("while somebody downloads: %v, %v", left, err)
	}
	_ = lock.Close()
	if left, err := root.Leftovers(t.Context()); err != nil || len(left) != 1 || left[0] != half {
		t.Errorf("left over: %v, %v", left, err)
	}
	if err := root.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(half); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func TestDownloadsAndListsAreRemovedUnlessSomebodyDownloads(t *testing.T) {
	root := New(t.TempDir(), Suite, Sources{}, slog.New(slog.DiscardHandler))
	if all, err := root.Entries(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("no root: %v, %v", all, err)
	}
	other := New(filepath.Dir(root.dir), "oldstable", Sources{}, slog.New(slog.DiscardHandler))
	for _, path := range []string{root.path("lock"), root.path("archives", "a.deb"), root.path("lists", "a"), root.path("pkgcache.bin"), other.path("lock"), other.path("lists", "a")} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, nil, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	all, err := root.Entries(t.Context())
	if err != nil || len(all) != 3 {
		t.Fatalf("%+v, %v", all, err)
	}
	lock, err := os.OpenFile(root.path("lock"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		own := e.Name == filepath.Base(root.dir)
		if e.Current != (own && e.Kind == banger.CacheLists) {
			t.Errorf("%+v", e)
		}
		if err := root.RemoveEntry(t.Context(), e); (banger.KindOf(err) == banger.KindConflict) != own {
			t.Errorf("%s of %s while somebody downloads: %v", e.Kind, e.Name, err)
		}
	}
	_ = lock.Close()
	for _, e := range all {
		if err := root.RemoveEntry(t.Context(), e); err != nil {
			t.Error(err)
		}
	}
	if all, err := root.Entries(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("afterwards: %+v, %v", all, err)
	}
	if _, err := os.Stat(root.path("lock")); err != nil {
		t.Errorf("the lock: %v", err)
	}
}

func TestReachAsksForTheSuite(t *testing.T) {
	asked := ""
	mirror := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.Method + " " + r.URL.Path
		if strings.HasPrefix(r.URL.Path, "/empty") {
			http.NotFound(w, r)
		}
	}))
	defer mirror.Close()
	if err := testRoot(t, mirror.URL+"/debian/").Reach(t.Context()); err != nil || asked != "HEAD /debian/dists/"+Suite+"/InRelease" {
		t.Errorf("%v, asked %q", err, asked)
	}
	refused(t, testRoot(t, mirror.URL+"/empty").Reach(t.Context()))
	refused(t, testRoot(t, "http://127.0.0.1:1").Reach(t.Context()))
}

func TestChildHasAFixedEnvironment(t *testing.T) {
	t.Setenv("SECRET", "x")
	t.Setenv("http_proxy", "http://p/")
	out, err := run(t.Context(), command{argv: []string{"env"}, env: []string{"A=B"}})
	if err != nil {
		t.Fatal(err)
	}
	env := "\n" + string(out)
	if strings.Contains(env, "SECRET") || !strings.Contains(env, "\nA=B\n") || !strings.Contains(env, "\nLC_ALL=C.UTF-8\n") || !strings.Contains(env, "\nhttp_proxy=http://p/\n") {
		t.Errorf("environment: %s", out)
	}
}

// TestCancelEndsTheWholeGroup: what apt started must not go on after it.
func TestCancelEndsTheWholeGroup(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	said, says, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = says.Close() }()
	defer func() { _ = said.Close() }()
	started := make(chan int, 1)
	go func() {
		line := make([]byte, 32)
		n, _ := said.Read(line)
		pid, _ := strconv.Atoi(strings.TrimSpace(string(line[:n])))
		started <- pid
		cancel()
	}()
	_, err = run(ctx, command{argv: []string{"sh", "-c", "sleep 1000 & echo $! >&3; wait"}, files: []*os.File{says}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	grandchild := <-started
	if grandchild <= 0 {
		t.Fatalf("process %d", grandchild)
	}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		state, err := os.ReadFile("/proc/" + strconv.Itoa(grandchild) + "/stat")
		if err != nil || strings.Contains(string(state), ") Z ") {
			return
		}
	}
	_ = syscall.Kill(grandchild, syscall.SIGKILL)
	t.Errorf("process %d goes on", grandchild)
}

func TestFirstComplaint(t *testing.T) {
	for out, want := range map[string]string{
		"": "",
		"W: first\nE: Failed to fetch\nE: other\n": "Failed to fetch",
		"Err:1 x\nW: only a warning\n":             "only a warning",
		"one\n\ntwo\n":                             "two",
	} {
		if got := firstComplaint(out); got != want {
			t.Errorf("%q: %q, want %q", out, got, want)
		}
	}
}

func TestParseStatus(t *testing.T) {
	for line, want := range map[string]float64{"dlstatus:1:42.5:Retrieving file 1 of 1": 42.5, "dlstatus:1:100.0000:x": 100} {
		if got, ok := parseStatus(line); !ok || got != want {
			t.Errorf("%q: %v %v", line, got, ok)
		}
	}
	for _, line := range []string{"", "pmstatus:1:2:3", "dlstatus:1", "dlstatus:1:x:y", "dlstatus:1:-1:y", "dlstatus:1:NaN:y", "dlstatus:1:101:y"} {
		if _, ok := parseStatus(line); ok {
			t.Errorf("%q was taken", line)
		}
	}
}

func FuzzParsePackage(f *testing.F) {
	f.Add([]byte("Package: a1\nVersion: 1\nSize: 1\nSHA256: " + strings.Repeat("0", 64) + "\nDepends: b (= 1) | c, d:any\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parsePackage("a1", b)
		if err == nil && strings.ContainsAny(p.file(), "/\x00\n") {
			t.Errorf("file name %q", p.file())
		}
	})
}
