package client

import (
	"context"
	"net/http"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
)

// ListImages is all images in the cache, sorted by name.
func (c *Client) ListImages(ctx context.Context) ([]banger.Image, error) {
	return ask[[]banger.Image](ctx, c, request{method: http.MethodGet, path: api.RouteImages})
}

// ListKernels is all kernels in the cache, the newest first.
func (c *Client) ListKernels(ctx context.Context) ([]banger.Kernel, error) {
	return ask[[]banger.Kernel](ctx, c, request{method: http.MethodGet, path: api.RouteKernels})
}
