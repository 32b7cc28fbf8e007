package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"banger.dev/banger/internal/du"
)

// pull gets the default image from a registry on loopback, in a cache of its own,
// and another that has one layer more: what that takes on disk and on the way, and
// how much longer the first VM of an image takes than its second.
func (b *bench) pull(ctx context.Context) error {
	dir, packed, err := b.packed(ctx)
	defer func() { _ = os.RemoveAll(dir) }()
	if err != nil {
		return err
	}
	one, two, err := layered(packed)
	if err != nil {
		return err
	}
	var sent atomic.Int64
	server := serveImages(&sent)
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	for ref, img := range map[string]v1.Image{"one": one, "two": two} {
		to, err := name.ParseReference(host+"/"+ref, name.Insecure)
		if err == nil {
			err = remote.Write(to, img, remote.WithContext(ctx))
		}
		if err != nil {
			return fmt.Errorf("push %s: %w", ref, err)
		}
	}
	return b.apart(ctx, func(b *bench) error { return b.pulls(ctx, host, one, two, &sent) })
}

// pulls are what is measured, in a home and a cache of their own.
func (b *bench) pulls(ctx context.Context, host string, one, two v1.Image, sent *atomic.Int64) error {
	layers, err := one.Layers()
	if err != nil {
		return err
	}
	compressed, err := layers[0].Size()
	if err != nil {
		return err
	}
	images := filepath.Join(b.cache, "images")
	before := taken(images)
	peak, err := peakOf(images, func() error { return b.banger(ctx, "image", "pull", host+"/one").Run() })
	if err != nil {
		return err
	}
	digest, err := one.ConfigName()
	if err != nil {
		return err
	}
	made := taken(filepath.Join(images, digest.Hex, "rootfs.ext4"))
	const mib = 1 << 20
	b.report.compare("disk at the peak of a pull / layers + file system + 64 MiB", "MiB", float64(peak-before)/mib, float64(compressed+made)/mib+64, 1, true)

	if layers, err = two.Layers(); err != nil {
		return err
	}
	more, err := layers[1].Size()
	if err != nil {
		return err
	}
	begun := sent.Load()
	if err := b.banger(ctx, "image", "pull", host+"/two").Run(); err != nil {
		return err
	}
	b.report.compare("bytes of a pull that shares all but a layer / that layer", "MiB", float64(sent.Load()-begun)/mib, float64(more)/mib, 1.05, true)
	return b.firstVM(ctx, host)
}

// firstVM compares the first VM of an image with its second. Each round it is
// another image, which a commit makes of one more file.
func (b *bench) firstVM(ctx context.Context, host string) error {
	run := func(image string) (float64, error) {
		return seconds(b.banger(ctx, "vm", "run", "--rm", "--image", image, "--", "true").Run)
	}
	if _, err := run(host + "/one"); err != nil { // the kernel and the templates are there
		return err
	}
	var first, second []float64
	for i := range b.rounds {
		image := "round-" + strconv.Itoa(i)
		for _, args := range [][]string{
			{"vm", "run", "--name", image, "--image", host + "/one", "--init", "none", "--", "sh", "-c", "echo " + image + " >/round"},
			{"vm", "stop", image}, {"image", "commit", image, image}, {"vm", "delete", image},
		} {
			if out, err := b.banger(ctx, args...).CombinedOutput(); err != nil {
				return fmt.Errorf("%v: %w\n%s", args, err, out)
			}
		}
		for _, into := range []*[]float64{&first, &second} {
			s, err := run(image)
			if err != nil {
				return err
			}
			*into = append(*into, s)
		}
		if err := b.banger(ctx, "image", "delete", image).Run(); err != nil {
			return err
		}
	}
	b.report.compare("the first VM of a new image / the second", "s", median(first), median(second), 1.1, true)
	return nil
}

// apart does something with a home of its own, and a cache that begins with the
// kernels and templates of the shared one.
func (b *bench) apart(ctx context.Context, do func(*bench) error) (err error) {
	own := *b
	if own.home, err = os.MkdirTemp("", "bng-"); err != nil {
		return err
	}
	own.cache = filepath.Join(own.home, "cache")
	defer func() {
		err = errors.Join(err, own.close())
		b.report = own.report
	}()
	if err := os.Mkdir(own.cache, 0o755); err != nil {
		return err
	}
	for _, part := range []string{"kernels", "templates", "images"} {
		if out, err := exec.CommandContext(ctx, "cp", "-al", filepath.Join(b.cache, part), own.cache).CombinedOutput(); err != nil {
			return fmt.Errorf("copy the cache: %w\n%s", err, out)
		}
	}
	return do(&own)
}

// layered are two images: a root, and the same with 4 MiB more in a layer.
func layered(packed string) (one, two v1.Image, err error) {
	root, err := tarball.LayerFromFile(packed)
	if err != nil {
		return nil, nil, err
	}
	config := &v1.ConfigFile{OS: "linux", Architecture: "amd64", RootFS: v1.RootFS{Type: "layers"}}
	bare, err := mutate.ConfigFile(empty.Image, config)
	if err != nil {
		return nil, nil, err
	}
	if one, err = mutate.AppendLayers(bare, root); err != nil {
		return nil, nil, err
	}
	noise := make([]byte, 4<<20)
	_, _ = rand.Read(noise)
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	err = w.WriteHeader(&tar.Header{Name: "noise", Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(noise))})
	if err == nil {
		_, err = w.Write(noise)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return nil, nil, err
	}
	more, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(out.Bytes())), nil })
	if err != nil {
		return nil, nil, err
	}
	two, err = mutate.AppendLayers(one, more)
	return one, two, err
}

// serveImages is a registry that counts what it sends.
func serveImages(sent *atomic.Int64) *httptest.Server {
	handler := registry.New(registry.Logger(slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)))
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler.ServeHTTP(&metered{w, sent}, r)
	}))
}

type metered struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (m *metered) Write(p []byte) (int, error) {
	m.n.Add(int64(len(p)))
	return m.ResponseWriter.Write(p)
}

// taken is what a directory takes, or 0.
func taken(path string) int64 {
	n, _ := new(du.Counter).Tree(path)
	return int64(n)
}

// peakOf is the most that a directory takes while do is done, looked at again and
// again.
func peakOf(dir string, do func() error) (int64, error) {
	done := make(chan error, 1)
	go func() { done <- do() }()
	peak := taken(dir)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return max(peak, taken(dir)), err
		case <-tick.C:
			peak = max(peak, taken(dir))
		}
	}
}
