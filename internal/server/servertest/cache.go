package servertest

import (
	"context"
	"io"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
)

// Images is a cache with these images in it.
type Images []banger.Image

// List is server.Images's.
func (i Images) List(context.Context) ([]banger.Image, error) { return i, nil }

// Catalog is server.Images's: it has each image by its name.
func (i Images) Catalog(context.Context) ([]banger.CatalogImage, error) {
	var list []banger.CatalogImage
	for _, img := range i {
		entry := banger.CatalogEntry{Name: img.Name, Description: "a test's", Source: "debian:trixie", Packages: []string{"tmux"}, Kernel: img.Kernel}
		list = append(list, banger.CatalogImage{CatalogEntry: entry, Image: &img})
	}
	return list, nil
}

// Lookup is server.Images's, of a cache that asks the registry example.org.
func (i Images) Lookup(ref string) (*banger.Image, []string, error) {
	for _, img := range i {
		if img.Name == ref {
			return &img, nil, nil
		}
	}
	return nil, []string{"example.org"}, nil
}

// Delete is server.Images's, of a cache whose every image a VM needs.
func (i Images) Delete(_ context.Context, ref string) (banger.Image, error) {
	for _, img := range i {
		if img.Name == ref {
			return img, banger.Errorf(banger.KindConflict, "2 VMs need it")
		}
	}
	return banger.Image{}, banger.Errorf(banger.KindNotFound, "no image %q is here", ref)
}

// Pull is server.Images's: it has what is in the cache.
func (i Images) Pull(_ context.Context, ref string, _ map[string]api.RegistryCredential, report banger.ProgressFunc) (banger.Image, bool, error) {
	report.Report(banger.Progress{Stage: "image", Message: "layer 1 of 1"})
	for _, img := range i {
		if img.Name == ref {
			return img, true, nil
		}
	}
	return banger.Image{}, false, banger.Errorf(banger.KindNotFound, "no image %q", ref)
}

// Import is server.Images's, of a cache that takes the archive "whole" and
// refuses all others at their beginning.
func (i Images) Import(_ context.Context, name string, archive io.Reader, report banger.ProgressFunc) (banger.Image, error) {
	report.Report(banger.Progress{Stage: "image", Message: "receive"})
	said := make([]byte, len("whole"))
	if _, err := io.ReadFull(archive, said); err != nil {
		return banger.Image{}, banger.Errorf(banger.KindInvalid, "read the archive: %w", err)
	}
	if string(said) != "whole" {
		return banger.Image{}, banger.Errorf(banger.KindInvalid, "the archive is no archive")
	}
	return banger.Image{Name: name, Digest: "sha256:abc"}, nil
}

// Register is server.Images's, as Import is.
func (i Images) Register(ctx context.Context, name string, file io.Reader, report banger.ProgressFunc) (banger.Image, error) {
	return i.Import(ctx, name, file, report)
}

// KernelDigest is that of the kernel that all VMs have.
const KernelDigest = "sha256:2"

// Kernels is a cache with these kernels in it.
type Kernels []banger.Kernel

// List is server.Kernels's.
func (k Kernels) List(context.Context) ([]banger.Kernel, error) { return k, nil }

// Size is server.Kernels's.
func (Kernels) Size(banger.Kernel) (banger.Bytes, error) { return 30 * banger.MiB, nil }

// Get is server.Kernels's.
func (k Kernels) Get(_ context.Context, ref string) (banger.Kernel, error) {
	for _, kernel := range k {
		if kernel.Name == ref || kernel.Digest == ref {
			return kernel, nil
		}
	}
	return banger.Kernel{}, banger.Errorf(banger.KindNotFound, "there is no kernel %q", ref)
}

// Delete is server.Kernels's, of a cache in which no other home needs anything.
func (k Kernels) Delete(ctx context.Context, ref string) (banger.Kernel, error) {
	return k.Get(ctx, ref)
}

// Pull is server.Kernels's: it has what is in the cache.
func (k Kernels) Pull(ctx context.Context, release string, report banger.ProgressFunc) (banger.Kernel, bool, error) {
	report.Report(banger.Progress{Stage: "kernel", Message: "download"})
	kernel, err := k.Get(ctx, release)
	return kernel, err == nil, err
}

// Import is server.Kernels's, of a cache that takes what Images does.
func (k Kernels) Import(ctx context.Context, name string, archive io.Reader, report banger.ProgressFunc) (banger.Kernel, error) {
	img, err := Images{}.Import(ctx, name, archive, report)
	return banger.Kernel{Name: name, Digest: img.Digest}, err
}
