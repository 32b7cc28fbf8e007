package crashtest

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"banger.dev/banger"
	"banger.dev/banger/internal/agent/archive"
	"banger.dev/banger/internal/api"
	"banger.dev/banger/internal/client"
	"banger.dev/banger/internal/image/ext4"
	"banger.dev/banger/internal/kernel/kerneltest"
)

// imports are the verbs that make something for which there need be no VM.
func imports() []verb {
	return []verb{
		{name: "image import", from: absent, to: absent, do: (*home).importImage, effect: hasImage((*home).image), undo: deletesImage((*home).image)},
		{name: "image register", alike: true, from: absent, to: absent, do: (*home).registerImage, effect: hasImage((*home).image), undo: deletesImage((*home).image)},
		{name: "image pull", from: absent, to: absent, prepare: (*home).push, do: (*home).pullImage, effect: hasImage((*home).reference), undo: deletesImage((*home).reference)},
		{name: "kernel import", from: absent, to: absent, do: (*home).importKernel, effect: (*home).hasKernel, undo: (*home).deleteKernel},
	}
}

// image is the name of what is made here, an image or a kernel. Homes may share a
// cache, so that it is this home's alone, as its content is.
func (h *home) image() string { return filepath.Base(filepath.Dir(h.dir)) }

// reference is the name of what the registry has for this home.
func (h *home) reference() string { return h.registry + "/" + h.image() + ":1" }

// hasImage is the effect of a verb that makes an image.
func hasImage(as func(*home) string) func(*home, banger.VM) error {
	return func(h *home, _ banger.VM) error {
		found, err := ask(h, func(ctx context.Context, c *client.Client) (api.ImageLookup, error) { return c.LookupImage(ctx, as(h)) })
		if err == nil && found.Image == nil {
			err = fmt.Errorf("there is no image %s", as(h))
		}
		return err
	}
}

// deletesImage takes it away again.
func deletesImage(as func(*home) string) func(*home) error {
	return func(h *home) error {
		return do(h, func(ctx context.Context, c *client.Client) (banger.Image, error) { return c.DeleteImage(ctx, as(h)) })
	}
}

// root is a tar of the smallest root.
func (h *home) root() []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	_ = w.WriteHeader(&tar.Header{Name: "sbin/init", Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(h.image()))}) // to memory
	_, _ = io.WriteString(w, h.image())
	_ = w.Close()
	return b.Bytes()
}

func (h *home) importImage(string) error {
	return do(h, func(ctx context.Context, c *client.Client) (banger.Image, error) {
		return c.ImportImage(ctx, h.image(), bytes.NewReader(h.root()))
	})
}

// registerImage registers the file system that open has made.
func (h *home) registerImage(string) error {
	dir, err := os.Open(filepath.Dir(h.dir))
	if err != nil {
		return err
	}
	defer dir.Close()
	var b bytes.Buffer
	p := archive.NewPacker(&b)
	if err := errors.Join(p.AddOne(dir, fileSystem, fileSystem), p.Close()); err != nil {
		return err
	}
	return do(h, func(ctx context.Context, c *client.Client) (banger.Image, error) {
		return c.RegisterImage(ctx, h.image(), &b)
	})
}

// fileSystem is the name of one beside a home, and in what a client sends.
const fileSystem = "rootfs.ext4"

func (h *home) makeFileSystem() error {
	return ext4.Empty(context.Background(), filepath.Join(filepath.Dir(h.dir), fileSystem), ext4.Options{Size: 16 * banger.MiB})
}

func (h *home) pullImage(string) error {
	return do(h, func(ctx context.Context, c *client.Client) (api.Operation, error) {
		return c.PullImage(ctx, api.PullRequest{Reference: h.reference()}, nil)
	})
}

// push has the registry have an image for this home.
func (h *home) push(string) error {
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(h.root())), nil })
	if err != nil {
		return err
	}
	img, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: "amd64", RootFS: v1.RootFS{Type: "layers"}})
	if err != nil {
		return err
	}
	if img, err = mutate.AppendLayers(img, layer); err != nil {
		return err
	}
	ref, err := name.ParseReference(h.reference())
	if err != nil {
		return err
	}
	return remote.Write(ref, img)
}

// startRegistry is a registry on loopback, by its address.
func startRegistry(t *testing.T) string {
	s := httptest.NewServer(registry.New(registry.Logger(slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo))))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func (h *home) importKernel(string) error {
	deb := kerneltest.KernelDeb("6.1-" + h.image())
	return do(h, func(ctx context.Context, c *client.Client) (banger.Kernel, error) {
		return c.ImportKernel(ctx, h.image(), bytes.NewReader(deb))
	})
}

func (h *home) hasKernel(banger.VM) error {
	return do(h, func(ctx context.Context, c *client.Client) (banger.KernelDetail, error) {
		return c.LookupKernel(ctx, h.image())
	})
}

func (h *home) deleteKernel() error {
	return do(h, func(ctx context.Context, c *client.Client) (banger.Kernel, error) {
		return c.DeleteKernel(ctx, h.image())
	})
}

// swept says whether anything half-made is in the cache. Of one that homes share
// that cannot be said.
func (h *home) swept() error {
	if h.cache != "" {
		return nil
	}
	left, err := filepath.Glob(filepath.Join(h.layout.Images(), "tmp", "*"))
	more, bad := filepath.Glob(filepath.Join(h.layout.Kernels(), "tmp-*"))
	if left = append(left, more...); len(left) > 0 {
		err = fmt.Errorf("half-made and left: %v", left)
	}
	return errors.Join(err, bad)
}
