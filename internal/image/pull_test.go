package image_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
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
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"banger.dev/banger"
	"banger.dev/banger/internal/image/oci"
)

// A registry may be slow as long as something comes.
func TestPullSlowly(t *testing.T) {
	r := startRegistry(t)
	r.push("slow", v1.ConfigFile{}, pack(t, "f", noise(1<<20)))
	store, layout := newStore(t, oci.Settings{})
	store.Stall = 2 * time.Second
	r.spoiled(func(w http.ResponseWriter, req *http.Request) bool {
		if req.Header.Get("X-Banger-Layer") == "" {
			return false
		}
		proxied := httptest.NewRecorder()
		forward(r.real, proxied, req)
		w.WriteHeader(proxied.Code)
		for piece := range slices.Chunk(proxied.Body.Bytes(), 1<<16) {
			_, _ = w.Write(piece)
			_ = http.NewResponseController(w).Flush()
			time.Sleep(150 * time.Millisecond) // longer than Stall in all
		}
		return true
	})
	if _, _, err := store.Pull(t.Context(), r.host()+"/slow", nil, nil); err != nil {
		t.Error(err)
	}
	nothingHalfMade(t, layout)
}

// A registry that sends another part of a layer than it is asked for is asked for
// all of it, and not for ever.
func TestPullOfWrongRanges(t *testing.T) {
	r := startRegistry(t)
	content := noise(2 << 20)
	r.push("big", v1.ConfigFile{}, pack(t, "f", content))
	for name, c := range map[string]struct {
		part  string // of the second answer
		again bool   // also the answers after that are cut off
	}{
		"another part":  {"bytes 0-99/100", false},
		"another layer": {"bytes 1048576-2097151/2097152", false},
		"no part":       {"", false},
		"nonsense":      {"bytes x-y/z", false},
		"for ever":      {"bytes 0-99/100", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int32
			front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				if req.Header.Get("X-Banger-Layer") == "" {
					forward(r.real, w, req)
					return
				}
				n := asked.Add(1)
				if req.Header.Get("Range") != "" {
					w.Header().Set("Content-Range", c.part)
					w.WriteHeader(http.StatusPartialContent)
					_, _ = w.Write(make([]byte, 100))
					return
				}
				proxied := httptest.NewRecorder()
				forward(r.real, proxied, req)
				body := proxied.Body.Bytes()
				if n > 1 && !c.again {
					_, _ = w.Write(body)
					return
				}
				w.Header().Set("Content-Length", fmt.Sprint(len(body)))
				_, _ = w.Write(body[:1<<20])
				panic(http.ErrAbortHandler)
			}))
			defer front.Close()
			store, layout := newStore(t, oci.Settings{})
			img, _, err := store.Pull(t.Context(), strings.TrimPrefix(front.URL, "http://")+"/big", nil, nil)
			switch {
			case c.again && (banger.KindOf(err) != banger.KindUnavailable || !strings.Contains(err.Error(), "its layer")):
				t.Errorf("%v", err)
			case !c.again && err != nil:
				t.Error(err)
			case !c.again && debugfs(t, img.RootFS, "cat /f") != content:
				t.Error("the image holds something else")
			}
			nothingHalfMade(t, layout)
		})
	}
}

// pushIndex has skopeo push an image for each of these architectures under one
// name, its layers compressed as docker does not.
func (r *registry) pushIndex(name string, architectures ...string) {
	r.t.Helper()
	var index v1.ImageIndex = empty.Index
	for _, a := range architectures {
		img := built(r.t, v1.ConfigFile{OS: "linux", Architecture: a}, pack(r.t, "architecture", a))
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: a}}})
	}
	dir := r.t.TempDir()
	p, err := layout.Write(dir, empty.Index)
	if err := errors.Join(err, p.AppendIndex(index)); err != nil {
		r.t.Fatal(err)
	}
	cmd := exec.Command("skopeo", "copy", "--all", "--dest-tls-verify=false", "--insecure-policy", "--dest-compress-format", "zstd", "oci:"+dir, "docker://"+r.real+"/"+name)
	if out, err := cmd.CombinedOutput(); err != nil {
		r.t.Fatalf("skopeo: %v\n%s", err, out)
	}
}

// Of an index what is for this host is taken, and nothing else.
func TestPullOfAnIndex(t *testing.T) {
	r := startRegistry(t)
	r.pushIndex("some", "arm64", "amd64", "s390x")
	r.pushIndex("others", "arm64", "s390x")
	store, layout := newStore(t, oci.Settings{})
	img, _, err := store.Pull(t.Context(), r.host()+"/some", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := debugfs(t, img.RootFS, "cat /architecture"); got != "amd64" || img.Architecture != "amd64" {
		t.Errorf("it is of %q, and says %q", got, img.Architecture)
	}
	_, _, err = store.Pull(t.Context(), r.host()+"/others", nil, nil)
	if banger.KindOf(err) != banger.KindInvalid || !strings.Contains(fmt.Sprint(err), `it is for "linux/arm64, linux/s390x", and this host is linux/amd64`) {
		t.Errorf("%s: %v", banger.KindOf(err), err)
	}
	nothingHalfMade(t, layout)
}

// layerNames are the layers that there are, and what is said of each.
func layerNames(t *testing.T, entries []banger.CacheEntry) (lines []string) {
	for _, e := range entries {
		if e.Kind == banger.CacheLayer {
			lines = append(lines, fmt.Sprintf("%d %t", e.Holders, e.Current))
		}
	}
	slices.Sort(lines)
	return lines
}

// A layer goes with the last image that is made of it, and never while somebody
// pulls.
func TestLayersStayWhileSomebodyPulls(t *testing.T) {
	r := startRegistry(t)
	base := pack(t, "base", noise(1<<16))
	r.push("one", v1.ConfigFile{}, base)
	r.push("two", v1.ConfigFile{}, base, pack(t, "two", noise(1<<16)))
	store, layout := newStore(t, oci.Settings{})
	one, _, err := store.Pull(t.Context(), r.host()+"/one", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	here, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	pulled := make(chan error, 1)
	go func() {
		_, _, err := store.Pull(context.WithoutCancel(t.Context()), r.host()+"/two", nil, func(p banger.Progress) {
			if strings.HasPrefix(p.Message, "layer ") { // it has seen that the first is here
				once.Do(func() { close(here); <-goOn })
			}
		})
		pulled <- err
	}()
	<-here
	if err := store.Remove(t.Context(), one.Digest); err != nil {
		t.Error(err)
	}
	entries, err := store.Entries(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := store.RemoveEntry(t.Context(), e); banger.KindOf(err) != banger.KindConflict {
			t.Errorf("%s while somebody pulls: %v", e.Kind, err)
		}
	}
	close(goOn)
	if err := <-pulled; err != nil {
		t.Fatal(err)
	}

	half := filepath.Join(layout.Images(), "layers", strings.Repeat("0", 64)+".part")
	vm := filepath.Join(t.TempDir(), "vm")
	two, ok, err := store.Have(t.Context(), r.host()+"/two")
	if err := errors.Join(err, os.WriteFile(half, nil, 0o600), os.Mkdir(vm, 0o700), store.Hold(t.Context(), two.Digest, vm)); err != nil || !ok {
		t.Fatal(err, ok)
	}
	if entries, err = store.Entries(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := layerNames(t, entries); !slices.Equal(got, []string{"0 false", "1 true", "1 true"}) {
		t.Errorf("layers: %q", got)
	}
	for _, e := range entries {
		err := store.RemoveEntry(t.Context(), e)
		if needed := e.Holders > 0; needed != (banger.KindOf(err) == banger.KindConflict) {
			t.Errorf("%s, needed by %d: %v", e.Path, e.Holders, err)
		}
	}
	if err := errors.Join(store.Release(vm), store.Remove(t.Context(), two.Digest)); err != nil {
		t.Error(err)
	}
	if left, err := store.Entries(t.Context()); err != nil || len(left) != 0 {
		t.Errorf("left: %+v, %v", left, err)
	}
}
