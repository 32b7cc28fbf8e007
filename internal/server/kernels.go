package server

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
)

// Kernels is what the server says of the kernels in the cache.
type Kernels interface {
	// List is every kernel that is whole, the newest first, one for each name.
	List(ctx context.Context) ([]banger.Kernel, error)
	// Size is what one of them takes on the disk.
	Size(k banger.Kernel) (banger.Bytes, error)
	// Get is the one that ref names.
	Get(ctx context.Context, ref string) (banger.Kernel, error)
	// Delete takes a name of a kernel away, and with the last one the kernel. It is
	// KindConflict while a VM needs that.
	Delete(ctx context.Context, ref string) (banger.Kernel, error)
	// Pull gets the newest kernel of a distribution's release, and tells whether it
	// is another than was here.
	Pull(ctx context.Context, release string, report banger.ProgressFunc) (k banger.Kernel, changed bool, err error)
	// Import makes a kernel of a package or a tar. The reader must end when ctx does.
	Import(ctx context.Context, name string, archive io.Reader, report banger.ProgressFunc) (banger.Kernel, error)
}

// describe says of kernels what they take, and who uses them.
func (s *Server) describe(ctx context.Context, kernels []banger.Kernel) ([]banger.KernelDetail, error) {
	vms, err := s.VMs.List(ctx)
	if err != nil {
		return nil, err
	}
	images, err := s.imagesWithKernels(ctx)
	if err != nil {
		return nil, err
	}
	described := []banger.KernelDetail{} // [] and never null, as what is in it
	for _, k := range kernels {
		d := banger.KernelDetail{Kernel: k, VMs: []string{}, Images: []string{}}
		if d.Size, err = s.Kernels.Size(k); err != nil {
			return nil, err
		}
		for _, vm := range vms {
			if vm.Kernel == k.Digest {
				d.VMs = append(d.VMs, vm.Name)
			}
		}
		for name, named := range images {
			if isKernel(named, k) {
				d.Images = append(d.Images, name)
			}
		}
		slices.Sort(d.Images)
		described = append(described, d)
	}
	return described, nil
}

// imagesWithKernels are the names of images, here or in the catalog, that have a
// kernel for their VMs that is here, and which.
func (s *Server) imagesWithKernels(ctx context.Context) (map[string]banger.Kernel, error) {
	images, err := s.Images.List(ctx)
	if err != nil {
		return nil, err
	}
	entries, err := s.Images.Catalog(ctx)
	if err != nil {
		return nil, err
	}
	with := map[string]string{}
	for _, e := range entries {
		with[e.Name] = e.Kernel
	}
	for _, img := range images {
		with[img.Name] = cmp.Or(img.Kernel, with[img.Name])
	}
	maps.DeleteFunc(with, func(name, kernel string) bool { return name == "" || kernel == "" })
	found := map[string]banger.Kernel{}
	for name, ref := range with {
		if k, err := s.Kernels.Get(ctx, ref); err == nil {
			found[name] = k
		}
	}
	return found, nil
}

// isKernel says whether what a reference has named is k, by this name if it has
// several.
func isKernel(named, k banger.Kernel) bool { return named.Digest == k.Digest && named.Name == k.Name }

func (s *Server) listKernels(ctx context.Context, _ *struct{}) (*body[[]banger.KernelDetail], error) {
	kernels, err := s.Kernels.List(ctx)
	if err != nil {
		return nil, err
	}
	described, err := s.describe(ctx, kernels)
	return &body[[]banger.KernelDetail]{described}, err
}

func (s *Server) lookupKernel(ctx context.Context, in *lookupInput) (*body[banger.KernelDetail], error) {
	k, err := s.Kernels.Get(ctx, in.Ref)
	if err != nil {
		return nil, err
	}
	kernels, err := s.Kernels.List(ctx)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(kernels, func(o banger.Kernel) bool {
		return o.Digest == k.Digest && (k.Name == "" || o.Name == k.Name)
	})
	if i < 0 {
		return nil, banger.Errorf(banger.KindNotFound, "the kernel %s has just been deleted", in.Ref).WithNext("banger kernel list")
	}
	described, err := s.describe(ctx, kernels[i:i+1])
	if err != nil {
		return nil, err
	}
	return &body[banger.KernelDetail]{described[0]}, nil
}

// deleteKernel says which VMs need a kernel that cannot go.
func (s *Server) deleteKernel(ctx context.Context, in *lookupInput) (*body[banger.Kernel], error) {
	k, err := s.Kernels.Get(ctx, in.Ref)
	if err != nil {
		return nil, err
	}
	users, err := s.usersOf(ctx, k)
	switch {
	case err != nil:
		return nil, err
	case len(users) > 0:
		return nil, banger.Errorf(banger.KindConflict, "the kernel %s is needed by %s", in.Ref, strings.Join(users, ", ")).
			WithNext("banger vm set --kernel OTHER %s", strings.Join(users, " "))
	}
	k, err = s.Kernels.Delete(ctx, in.Ref)
	if banger.KindOf(err) == banger.KindConflict { // VMs of another home with the same cache
		err = fmt.Errorf("the kernel %s is needed: %w", in.Ref, err)
	}
	return &body[banger.Kernel]{k}, err
}

// usersOf are the VMs for which a kernel, or its name, has to stay: those that
// were given that name, and with the last name, or where there is none, all that
// boot it.
func (s *Server) usersOf(ctx context.Context, k banger.Kernel) ([]string, error) {
	kernels, err := s.Kernels.List(ctx)
	if err != nil {
		return nil, err
	}
	vms, err := s.VMs.List(ctx)
	if err != nil {
		return nil, err
	}
	same, last := map[string]bool{}, true // digests of what was made of the same, for whatever agent
	for _, o := range kernels {
		if o.SourceDigest == k.SourceDigest {
			same[o.Digest] = true
			last = last && (o.Name == "" || o.Name == k.Name)
		}
	}
	var users []string
	for _, vm := range vms {
		switch {
		case k.Name == "" && vm.Kernel == k.Digest, k.Name != "" && same[vm.Kernel] && (last || s.given(ctx, vm.Name, k)):
			users = append(users, vm.Name)
		}
	}
	slices.Sort(users)
	return users, nil
}

// given says whether a VM was given a kernel by its name.
func (s *Server) given(ctx context.Context, vm string, k banger.Kernel) bool {
	d, err := s.VMs.Show(ctx, vm)
	if err != nil || d.Spec.Kernel == "" {
		return false
	}
	named, err := s.Kernels.Get(ctx, d.Spec.Kernel)
	return err == nil && isKernel(named, k)
}

type kernelPullInput struct{ Body api.KernelPullRequest }

func (s *Server) pullKernel(ctx context.Context, in *kernelPullInput) (*body[api.Operation], error) {
	req := in.Body
	op := s.beginOperation(ctx, "kernel pull", req.Release, req.Leash, func(ctx context.Context, report banger.ProgressFunc) (Result, error) {
		k, changed, err := s.Kernels.Pull(ctx, req.Release, report)
		return kernelResult(k, changed), err
	})
	return &body[api.Operation]{view(op.Snapshot())}, nil
}

func (s *Server) importKernel(w http.ResponseWriter, r *http.Request) {
	s.receive(w, r, "kernel import", func(ctx context.Context, name string, archive io.Reader, report banger.ProgressFunc) (Result, error) {
		k, err := s.Kernels.Import(ctx, name, archive, report)
		return kernelResult(k, true), err
	})
}
