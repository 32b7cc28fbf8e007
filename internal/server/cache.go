package server

import (
	"context"

	"banger.dev/banger"
)

// Images is what the server says of the images in the cache.
type Images interface {
	// List is every image that is whole, sorted by name.
	List(ctx context.Context) ([]banger.Image, error)
}

// Kernels is what the server says of the kernels in the cache.
type Kernels interface {
	// List is every kernel that is whole, the newest first.
	List(ctx context.Context) ([]banger.Kernel, error)
}

func (s *Server) listImages(ctx context.Context, _ *struct{}) (*body[[]banger.Image], error) {
	images, err := s.Images.List(ctx)
	if err != nil {
		return nil, err
	}
	return &body[[]banger.Image]{append([]banger.Image{}, images...)}, nil // [] and never null
}

func (s *Server) listKernels(ctx context.Context, _ *struct{}) (*body[[]banger.Kernel], error) {
	kernels, err := s.Kernels.List(ctx)
	if err != nil {
		return nil, err
	}
	return &body[[]banger.Kernel]{append([]banger.Kernel{}, kernels...)}, nil
}
