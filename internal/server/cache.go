package server

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
)

// Images is what the server says of the images in the cache.
type Images interface {
	// List is every image that is whole, sorted by name.
	List(ctx context.Context) ([]banger.Image, error)
	// Catalog is every entry of the catalog by name, and which images are here.
	Catalog(ctx context.Context) ([]banger.CatalogImage, error)
	// Lookup gives the image that ref names if it is here, else the hosts that
	// Pull would ask.
	Lookup(ref string) (image *banger.Image, hosts []string, err error)
	// Delete takes a name of an image away, and with the last one the image. It is
	// KindConflict while a VM needs that.
	Delete(ctx context.Context, ref string) (banger.Image, error)
	// Pull gets the newest image that ref names, and tells whether it is another
	// than was here.
	Pull(ctx context.Context, ref string, credentials map[string]api.RegistryCredential, report banger.ProgressFunc) (img banger.Image, changed bool, err error)
	// Import makes an image of an archive of one, or of a tar of a root. The
	// reader must end when ctx does.
	Import(ctx context.Context, name string, archive io.Reader, report banger.ProgressFunc) (banger.Image, error)
	// Register makes one of a tar of an ext4 file system. The same holds for the
	// reader.
	Register(ctx context.Context, name string, file io.Reader, report banger.ProgressFunc) (banger.Image, error)
}

func (s *Server) listImages(ctx context.Context, _ *struct{}) (*body[[]banger.Image], error) {
	images, err := s.Images.List(ctx)
	if err != nil {
		return nil, err
	}
	return &body[[]banger.Image]{append([]banger.Image{}, images...)}, nil // [] and never null
}

func (s *Server) catalog(ctx context.Context, _ *struct{}) (*body[[]banger.CatalogImage], error) {
	entries, err := s.Images.Catalog(ctx)
	if err != nil {
		return nil, err
	}
	return &body[[]banger.CatalogImage]{append([]banger.CatalogImage{}, entries...)}, nil
}

type lookupInput struct {
	Ref string `query:"ref" required:"true"`
}

func (s *Server) lookupImage(_ context.Context, in *lookupInput) (*body[api.ImageLookup], error) {
	image, hosts, err := s.Images.Lookup(in.Ref)
	if err != nil {
		return nil, err
	}
	return &body[api.ImageLookup]{api.ImageLookup{Image: image, Hosts: append([]string{}, hosts...)}}, nil
}

// deleteImage says which VMs need an image that cannot go.
func (s *Server) deleteImage(ctx context.Context, in *lookupInput) (*body[banger.Image], error) {
	img, err := s.Images.Delete(ctx, in.Ref)
	if banger.KindOf(err) != banger.KindConflict {
		return &body[banger.Image]{img}, err
	}
	vms, listed := s.VMs.List(ctx)
	if listed != nil {
		return nil, errors.Join(err, listed)
	}
	var names []string
	for _, vm := range vms {
		if vm.ImageDigest == img.Digest {
			names = append(names, vm.Name)
		}
	}
	if len(names) == 0 { // of another home with the same cache
		return nil, err
	}
	return nil, banger.Errorf(banger.KindConflict, "the image %s is needed by %s", in.Ref, strings.Join(names, ", ")).
		WithNext("banger vm delete %s", strings.Join(names, " "))
}

type pullInput struct{ Body api.PullRequest }

func (s *Server) pullImage(ctx context.Context, in *pullInput) (*body[api.Operation], error) {
	req := in.Body
	op := s.beginOperation(ctx, "image pull", req.Reference, req.Leash, func(ctx context.Context, report banger.ProgressFunc) (Result, error) {
		image, changed, err := s.Images.Pull(ctx, req.Reference, req.Credentials, report)
		return imageResult(image, changed), err
	})
	return &body[api.Operation]{view(op.Snapshot())}, nil
}

type commitInput struct {
	Ref  string `path:"ref"`
	Body api.CommitRequest
}

func (s *Server) commitImage(ctx context.Context, in *commitInput) (*body[api.Operation], error) {
	vm, err := s.VMs.Show(ctx, in.Ref)
	if err != nil {
		return nil, err
	}
	op := s.beginOperation(ctx, "image commit", in.Body.Name, in.Body.Leash, func(ctx context.Context, report banger.ProgressFunc) (Result, error) {
		image, err := s.VMs.Commit(ctx, vm.ID, in.Body.Name, report)
		return imageResult(image, true), err
	})
	return &body[api.Operation]{view(op.Snapshot())}, nil
}

func (s *Server) importImage(w http.ResponseWriter, r *http.Request) {
	s.receive(w, r, "image import", imageOf(s.Images.Import))
}

func (s *Server) registerImage(w http.ResponseWriter, r *http.Request) {
	s.receive(w, r, "image register", imageOf(s.Images.Register))
}

// imageOf is the receiver that makes an image.
func imageOf(make func(context.Context, string, io.Reader, banger.ProgressFunc) (banger.Image, error)) receiver {
	return func(ctx context.Context, name string, archive io.Reader, report banger.ProgressFunc) (Result, error) {
		img, err := make(ctx, name, archive, report)
		return imageResult(img, true), err
	}
}
