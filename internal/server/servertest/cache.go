package servertest

import (
	"context"

	"banger.dev/banger"
)

// Images is a cache with these images in it.
type Images []banger.Image

// List is server.Images's.
func (i Images) List(context.Context) ([]banger.Image, error) { return i, nil }

// Kernels is a cache with these kernels in it.
type Kernels []banger.Kernel

// List is server.Kernels's.
func (k Kernels) List(context.Context) ([]banger.Kernel, error) { return k, nil }
