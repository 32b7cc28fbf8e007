package image_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"

	"banger.dev/banger"
	"banger.dev/banger/internal/image"
	"banger.dev/banger/internal/image/layer"
	"banger.dev/banger/internal/image/oci"
	"banger.dev/banger/internal/paths"
)

// registry is Debian's docker-registry on loopback, and before it a server of
// ours that spoils what a test wants spoiled.
type registry struct {
	t     *testing.T
	real  string // host and port
	front *httptest.Server
	spoil atomic.Pointer[func(http.ResponseWriter, *http.Request) bool] // tells whether it has answered
	bytes atomic.Int64                                                  // of layers that were sent
	asked sync.Map                                                      // paths
}

func startRegistry(t *testing.T) *registry {
	t.Helper()
	need(t, "docker-registry", "skopeo", "mke2fs", "e2fsck", "debugfs")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &registry{t: t, real: l.Addr().String()}
	_ = l.Close()
	dir := t.TempDir()
	config := filepath.Join(dir, "config.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: %s}\n", dir, r.real)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("docker-registry", "serve", config)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	dead := make(chan struct{})
	go func() { _ = cmd.Wait(); close(dead) }()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-dead })
	for {
		if reply, err := http.Get("http://" + r.real + "/v2/"); err == nil {
			_ = reply.Body.Close()
			break
		}
		select {
		case <-dead:
			t.Fatal("docker-registry ended by itself")
		case <-time.After(20 * time.Millisecond):
		}
	}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: r.real})
	r.front = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.asked.Store(req.URL.Path, true)
		if spoil := r.spoil.Load(); spoil != nil && (*spoil)(w, req) {
			return
		}
		if strings.Contains(req.URL.Path, "/blobs/") {
			w = &counting{w, &r.bytes}
		}
		proxy.ServeHTTP(w, req)
	}))
	t.Cleanup(r.front.Close)
	return r
}

type counting struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (c *counting) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return c.ResponseWriter.Write(p)
}

// host is where images are pulled from.
func (r *registry) host() string { return strings.TrimPrefix(r.front.URL, "http://") }

func (r *registry) spoiled(with func(http.ResponseWriter, *http.Request) bool) { r.spoil.Store(&with) }

// push has skopeo push an image of these layers.
func (r *registry) push(name string, config v1.ConfigFile, layers ...[]byte) {
	r.t.Helper()
	img := built(r.t, config, layers...)
	dir := r.t.TempDir()
	p, err := layout.Write(dir, empty.Index)
	if err := errors.Join(err, p.AppendImage(img)); err != nil {
		r.t.Fatal(err)
	}
	cmd := exec.Command("skopeo", "copy", "--dest-tls-verify=false", "--insecure-policy", "oci:"+dir, "docker://"+r.real+"/"+name)
	if out, err := cmd.CombinedOutput(); err != nil {
		r.t.Fatalf("skopeo: %v\n%s", err, out)
	}
}

// pack is a layer with these files.
func pack(t *testing.T, files ...string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for i := 0; i < len(files); i += 2 {
		if err := w.WriteHeader(&tar.Header{Name: files[i], Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(files[i+1]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, files[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func noise(n int) string {
	p := make([]byte, n)
	_, _ = rand.Read(p)
	return string(p)
}

// newStore is an empty cache that asks no registry but those that are named.
func newStore(t *testing.T, settings oci.Settings) (*image.Store, paths.Layout) {
	layout := paths.Layout{Cache: t.TempDir()}
	return image.New(layout, func() image.Settings {
		return image.Settings{Registries: settings, Limits: layer.DefaultLimits()}
	}), layout
}

func TestPull(t *testing.T) {
	r := startRegistry(t)
	base := pack(t, "bin/sh", "shell", "gone", noise(1<<20), "kept", "low")
	config := v1.ConfigFile{Config: v1.Config{Env: []string{"A=b"}, WorkingDir: "/srv", User: "1000:7", Entrypoint: []string{"/bin/sh"}, Cmd: []string{"-c", "x"}}}
	r.push("one:tag", config, base, pack(t, ".wh.gone", "", "kept", "up"))
	store, layout := newStore(t, oci.Settings{Default: r.host()})
	ref := r.host() + "/one:tag"
	if img, hosts, err := store.Lookup(ref); img != nil || err != nil || len(hosts) != 1 || hosts[0] != r.host() {
		t.Errorf("%v %v %v", img, hosts, err)
	}
	var last banger.Progress
	img, changed, err := store.Pull(t.Context(), ref, nil, func(p banger.Progress) {
		if p.Total > 0 {
			last = p
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if !changed || img.Name != ref || img.Env[0] != "A=b" || img.Workdir != "/srv" || img.User != "1000:7" || img.Entrypoint[0] != "/bin/sh" || img.Cmd[1] != "x" || img.Architecture != "amd64" {
		t.Errorf("%+v", img)
	}
	if last.Done != last.Total || !last.Bytes || !strings.Contains(last.Message, "of 2") {
		t.Errorf("the last report was %+v", last)
	}
	if got := debugfs(t, img.RootFS, "cat /kept"); got != "up" {
		t.Errorf("kept holds %q", got)
	}
	if got := debugfs(t, img.RootFS, "ls -p /"); strings.Contains(got, "gone") || strings.Contains(got, ".wh.") {
		t.Errorf("%s", got)
	}
	t.Run("found again", func(t *testing.T) {
		before := r.bytes.Load()
		for _, name := range []string{ref, "one:tag", img.Digest, img.Digest[:20]} {
			if got, err := store.Resolve(t.Context(), name, nil); err != nil || got.Digest != img.Digest {
				t.Errorf("%s: %+v, %v", name, got, err)
			}
		}
		if list, err := store.List(t.Context()); err != nil || len(list) != 1 || list[0].Name != ref {
			t.Errorf("%+v, %v", list, err)
		}
		if r.bytes.Load() != before {
			t.Error("what is here was fetched")
		}
	})
	t.Run("shares layers", func(t *testing.T) {
		extra := pack(t, "extra", noise(4096))
		r.push("two", config, base, extra)
		before := r.bytes.Load()
		two, changed, err := store.Pull(t.Context(), r.host()+"/two", nil, nil)
		if err != nil || !changed || two.Digest == img.Digest {
			t.Fatal(two, changed, err)
		}
		if cost := r.bytes.Load() - before; cost > int64(len(extra))+8192 {
			t.Errorf("a layer of %d bytes cost %d", len(extra), cost)
		}
		if got := debugfs(t, two.RootFS, "cat /kept"); got != "low" {
			t.Errorf("kept holds %q", got)
		}
	})
	t.Run("same content, another name", func(t *testing.T) {
		r.push("same", config, base, pack(t, ".wh.gone", "", "kept", "up"))
		same, _, err := store.Pull(t.Context(), r.host()+"/same", nil, nil)
		if err != nil || same.Digest != img.Digest || same.RootFS != img.RootFS {
			t.Errorf("%+v, %v", same, err)
		}
	})
	t.Run("tag moved", func(t *testing.T) {
		r.push("one:tag", config, pack(t, "new", "new"))
		if got, err := store.Resolve(t.Context(), ref, nil); err != nil || got.Digest != img.Digest {
			t.Errorf("%+v, %v", got, err)
		}
		if got, changed, err := store.Pull(t.Context(), ref, nil, nil); err != nil || !changed || got.Digest == img.Digest {
			t.Errorf("%+v, %v, %v", got, changed, err)
		}
	})
	t.Run("mirror", func(t *testing.T) {
		store, _ := newStore(t, oci.Settings{Default: "nowhere.invalid", Mirrors: []string{"nowhere.invalid=" + r.host()}})
		if got, err := store.Resolve(t.Context(), "two", nil); err != nil || got.Name != "two" {
			t.Errorf("%+v, %v", got, err)
		}
	})
	t.Run("catalog", func(t *testing.T) {
		layout := paths.Layout{Cache: t.TempDir()}
		store := image.New(layout, func() image.Settings {
			entry := banger.CatalogEntry{Name: "mine", Source: "oci:" + r.host() + "/two", Kernel: "its own"}
			return image.Settings{Limits: layer.DefaultLimits(), Catalog: image.Catalog(nil, []banger.CatalogEntry{entry})}
		})
		if img, hosts, err := store.Lookup("mine"); img != nil || err != nil || !slices.Equal(hosts, []string{r.host()}) {
			t.Errorf("%v %v %v", img, hosts, err)
		}
		got, err := store.Resolve(t.Context(), "mine", nil)
		if err != nil || got.Kernel != "its own" || got.Digest == "" {
			t.Errorf("%+v, %v", got, err)
		}
		if again, ok, err := store.Have(t.Context(), "mine"); !ok || err != nil || again.Digest != got.Digest || again.Kernel != "its own" {
			t.Errorf("%+v, %v, %v", again, ok, err)
		}
		if _, err := store.Delete(t.Context(), "mine"); err != nil {
			t.Error(err)
		}
		if _, ok, err := store.Have(t.Context(), "mine"); ok || err != nil {
			t.Errorf("it is still here, %v", err)
		}
	})
	t.Run("removed", func(t *testing.T) {
		layers := func() int {
			list, _ := os.ReadDir(filepath.Join(layout.Images(), "layers"))
			return len(list)
		}
		r.push("same2", config, base, pack(t, ".wh.gone", "", "kept", "up"))
		if same, _, err := store.Pull(t.Context(), r.host()+"/same2", nil, nil); err != nil || same.Digest != img.Digest {
			t.Fatal(same, err)
		}
		before := layers()
		two, err := store.Resolve(t.Context(), r.host()+"/two", nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := store.Delete(t.Context(), r.host()+"/same"); err != nil {
			t.Error(err)
		}
		if _, ok, err := store.Have(t.Context(), img.Digest); !ok || err != nil {
			t.Errorf("the image went with a name of two: %v", err)
		}
		if got, err := store.Delete(t.Context(), r.host()+"/two"); err != nil || got.Digest != two.Digest {
			t.Error(err)
		}
		if _, err := store.Delete(t.Context(), r.host()+"/two"); banger.KindOf(err) != banger.KindNotFound {
			t.Error(err)
		}
		if after := layers(); after != before-1 {
			t.Errorf("%d layers, then %d", before, after)
		}
		if got, _, err := store.Lookup(r.host() + "/two"); got != nil || err != nil {
			t.Errorf("%+v, %v", got, err)
		}
	})
	nothingHalfMade(t, layout)
}

func TestPullOtherArchitecture(t *testing.T) {
	r := startRegistry(t)
	r.push("arm", v1.ConfigFile{OS: "linux", Architecture: "arm64"}, pack(t, "f", "x"))
	store, layout := newStore(t, oci.Settings{})
	_, _, err := store.Pull(t.Context(), r.host()+"/arm", nil, nil)
	if banger.KindOf(err) != banger.KindInvalid || !strings.Contains(err.Error(), "it is for linux/arm64, and this host is linux/") {
		t.Error(err)
	}
	nothingHalfMade(t, layout)
}

func TestPullPrivate(t *testing.T) {
	r := startRegistry(t)
	r.push("secret", v1.ConfigFile{}, pack(t, "f", "x"))
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("ada:pass"))
	for name, guard := range map[string]func(http.ResponseWriter, *http.Request) bool{
		"basic": func(w http.ResponseWriter, req *http.Request) bool {
			if req.Header.Get("Authorization") == basic {
				return false
			}
			w.Header().Set("WWW-Authenticate", `Basic realm="private"`)
			w.WriteHeader(401)
			return true
		},
		"token": func(w http.ResponseWriter, req *http.Request) bool {
			switch {
			case req.URL.Path == "/token" && req.Header.Get("Authorization") == basic && strings.Contains(req.URL.Query().Get("scope"), "repository:secret:pull"):
				_, _ = io.WriteString(w, `{"token":"let-in"}`)
			case req.Header.Get("Authorization") == "Bearer let-in":
				return false
			default:
				w.Header().Set("WWW-Authenticate", `Bearer realm="`+r.front.URL+`/token",service="here"`)
				w.WriteHeader(401)
			}
			return true
		},
	} {
		t.Run(name, func(t *testing.T) {
			r.spoiled(guard)
			store, layout := newStore(t, oci.Settings{})
			ref := r.host() + "/secret"
			_, _, err := store.Pull(t.Context(), ref, nil, nil)
			if banger.KindOf(err) != banger.KindUnavailable || banger.NextOf(err) != "docker login "+r.host() {
				t.Errorf("without credentials: %v, next %s", err, banger.NextOf(err))
			}
			if _, _, err = store.Pull(t.Context(), ref, map[string]oci.Credential{r.host(): {Username: "ada", Password: "wrong"}}, nil); err == nil || strings.Contains(err.Error(), "wrong") {
				t.Errorf("with wrong credentials: %v", err)
			}
			if _, _, err := store.Pull(t.Context(), ref, map[string]oci.Credential{r.host(): {Username: "ada", Password: "pass"}}, nil); err != nil {
				t.Error(err)
			}
			nothingHalfMade(t, layout)
			found := false
			_ = filepath.WalkDir(layout.Cache, func(path string, d os.DirEntry, _ error) error {
				if strings.HasSuffix(path, ".ext4") {
					return nil // sparse, and large
				}
				if p, err := os.ReadFile(path); err == nil && bytes.Contains(p, []byte("ada")) {
					found = true
				}
				return nil
			})
			if found {
				t.Error("credentials are in the cache")
			}
		})
	}
}

func TestPullGoesOn(t *testing.T) {
	r := startRegistry(t)
	r.push("big", v1.ConfigFile{}, pack(t, "f", noise(8<<20)))
	store, layout := newStore(t, oci.Settings{})
	var drops atomic.Int32
	r.spoiled(func(w http.ResponseWriter, req *http.Request) bool { // each answer ends after 3 MiB
		if !strings.Contains(req.URL.Path, "/blobs/") {
			return false
		}
		proxied := httptest.NewRecorder()
		forward(r.real, proxied, req)
		body := proxied.Body.Bytes()
		if len(body) <= 3<<20 {
			return false
		}
		drops.Add(1)
		for k, v := range proxied.Header() {
			w.Header()[k] = v
		}
		w.WriteHeader(proxied.Code)
		_, _ = w.Write(body[:3<<20])
		panic(http.ErrAbortHandler)
	})
	if _, _, err := store.Pull(t.Context(), r.host()+"/big", nil, nil); err != nil {
		t.Error(err)
	}
	if drops.Load() != 2 {
		t.Errorf("%d answers were cut off", drops.Load())
	}
	nothingHalfMade(t, layout)
}

func forward(host string, w http.ResponseWriter, req *http.Request) {
	httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: host}).ServeHTTP(w, req)
}

// A pull that ended in the middle of a layer is gone on with by the next one.
func TestInterruptedPullGoesOn(t *testing.T) {
	r := startRegistry(t)
	r.push("big", v1.ConfigFile{}, pack(t, "f", noise(8<<20)))
	store, layout := newStore(t, oci.Settings{})
	ctx, cancel := context.WithCancel(t.Context())
	_, _, err := store.Pull(ctx, r.host()+"/big", nil, func(p banger.Progress) {
		if p.Done > 2<<20 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if parts, _ := filepath.Glob(filepath.Join(layout.Images(), "layers", "*.part")); len(parts) != 1 {
		t.Errorf("left %q", parts)
	}
	ranges := make(chan string, 10)
	r.spoiled(func(_ http.ResponseWriter, req *http.Request) bool {
		if got := req.Header.Get("Range"); got != "" {
			ranges <- got
		}
		return false
	})
	if _, _, err := store.Pull(t.Context(), r.host()+"/big", nil, nil); err != nil {
		t.Error(err)
	}
	if len(ranges) == 0 {
		t.Error("the layer was fetched anew")
	}
	nothingHalfMade(t, layout)
}

// What a registry may do wrong is refused, and leaves no image.
func TestPullFromHostileRegistry(t *testing.T) {
	r := startRegistry(t)
	r.push("img", v1.ConfigFile{}, pack(t, "f", noise(1<<20)))
	isLayer := func(req *http.Request) bool {
		return strings.Contains(req.URL.Path, "/blobs/") && req.Header.Get("X-Banger-Layer") != ""
	}
	isManifest := func(req *http.Request) bool { return strings.Contains(req.URL.Path, "/manifests/") }
	release := make(chan struct{})
	const silent = "sends nothing"
	for name, c := range map[string]struct {
		spoil func(w http.ResponseWriter, req *http.Request) bool
		kind  banger.Kind
		says  string
	}{
		"wrong digest": {func(w http.ResponseWriter, req *http.Request) bool {
			if !isLayer(req) {
				return false
			}
			proxied := httptest.NewRecorder()
			forward(r.real, proxied, req)
			p := proxied.Body.Bytes()
			p[len(p)/2]++
			_, _ = w.Write(p)
			return true
		}, banger.KindInvalid, "has the digest"},
		"endless layer": {func(w http.ResponseWriter, req *http.Request) bool {
			for isLayer(req) {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					return true
				}
			}
			return false
		}, banger.KindInvalid, "is longer than"},
		"endless manifest": {func(w http.ResponseWriter, req *http.Request) bool {
			for isManifest(req) {
				w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
				if _, err := w.Write(bytes.Repeat([]byte(" "), 1<<20)); err != nil {
					return true
				}
			}
			return false
		}, banger.KindInvalid, "to describe an image"},
		"nonsense manifest": {func(w http.ResponseWriter, req *http.Request) bool {
			if isManifest(req) {
				w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
				_, _ = io.WriteString(w, `{"layers": 7`)
			}
			return isManifest(req)
		}, banger.KindUnavailable, "get the image"},
		"circle": {func(w http.ResponseWriter, req *http.Request) bool {
			if isManifest(req) {
				http.Redirect(w, req, req.URL.Path, http.StatusTemporaryRedirect)
			}
			return isManifest(req)
		}, banger.KindUnavailable, "in a circle"},
		"stalls": {func(w http.ResponseWriter, req *http.Request) bool {
			if isManifest(req) {
				select {
				case <-req.Context().Done():
				case <-release:
				}
			}
			return isManifest(req)
		}, banger.KindUnavailable, silent},
		"in the clear elsewhere": {func(w http.ResponseWriter, req *http.Request) bool {
			if isLayer(req) {
				http.Redirect(w, req, "http://example.invalid/", http.StatusTemporaryRedirect)
			}
			return isLayer(req)
		}, banger.KindUnavailable, "without TLS"},
		"layer is not there": {func(w http.ResponseWriter, req *http.Request) bool {
			if isLayer(req) {
				http.NotFound(w, req)
			}
			return isLayer(req)
		}, banger.KindInvalid, "is not there"},
		"no such image": {func(w http.ResponseWriter, req *http.Request) bool {
			if isManifest(req) {
				http.NotFound(w, req)
			}
			return isManifest(req)
		}, banger.KindNotFound, "not a local name or digest"},
		"out of order": {func(w http.ResponseWriter, req *http.Request) bool {
			w.WriteHeader(500)
			return true
		}, banger.KindUnavailable, "answers 500"},
	} {
		t.Run(name, func(t *testing.T) {
			r.spoiled(c.spoil)
			store, layout := newStore(t, oci.Settings{})
			if c.says == silent {
				store.Stall = 500 * time.Millisecond
			}
			_, _, err := store.Pull(t.Context(), r.host()+"/img", nil, nil)
			if banger.KindOf(err) != c.kind || !strings.Contains(fmt.Sprint(err), c.says) {
				t.Errorf("%s: %v", banger.KindOf(err), err)
			}
			nothingHalfMade(t, layout)
			if list, err := store.List(t.Context()); err != nil || len(list) != 0 {
				t.Errorf("%+v, %v", list, err)
			}
		})
	}
	close(release)
}

// A bomb of a layer is refused at the limit, and a layer that is no tar too.
func TestPullBadLayers(t *testing.T) {
	r := startRegistry(t)
	r.push("zeros", v1.ConfigFile{}, pack(t, "f", strings.Repeat("\x00", 64<<20)))
	r.push("none", v1.ConfigFile{}, []byte(strings.Repeat("nonsense", 1000)))
	r.push("out", v1.ConfigFile{}, pack(t, "../../etc/passwd", "hacked"))
	var huge bytes.Buffer // 100 GiB, of which there is nothing
	if w := tar.NewWriter(&huge); w.WriteHeader(&tar.Header{Name: "f", Typeflag: tar.TypeReg, Size: 100 << 30}) != nil || w.Flush() == nil {
		t.Fatal("no header")
	}
	r.push("huge", v1.ConfigFile{}, huge.Bytes())
	for name, says := range map[string]string{"zeros": "hold more than", "huge": "hold more than", "none": "not a whole tar", "out": "leads out"} {
		layout := paths.Layout{Cache: t.TempDir()}
		store := image.New(layout, func() image.Settings {
			return image.Settings{Limits: layer.Limits{Entries: 100, Size: 32 * banger.MiB}}
		})
		if _, _, err := store.Pull(t.Context(), r.host()+"/"+name, nil, nil); banger.KindOf(err) != banger.KindInvalid || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", name, err)
		}
		nothingHalfMade(t, layout)
	}
}
