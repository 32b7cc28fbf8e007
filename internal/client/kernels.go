package client

import (
	"context"
	"io"
	"net/http"
	"net/url"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
)

// ListKernels is all kernels in the cache, the newest first.
func (c *Client) ListKernels(ctx context.Context) ([]banger.KernelDetail, error) {
	return ask[[]banger.KernelDetail](ctx, c, request{method: http.MethodGet, path: api.RouteKernels})
}

// LookupKernel is the kernel that a name stands for.
func (c *Client) LookupKernel(ctx context.Context, ref string) (banger.KernelDetail, error) {
	return ask[banger.KernelDetail](ctx, c, request{method: http.MethodGet, path: api.RouteKernelLookup, query: url.Values{"ref": {ref}}})
}

// PullKernel gets the newest kernel of a distribution's release, and returns when
// that is done; progress may be nil.
func (c *Client) PullKernel(ctx context.Context, req api.KernelPullRequest, progress banger.ProgressFunc) (api.Operation, error) {
	return c.operate(ctx, request{method: http.MethodPost, path: api.RouteKernelPull, body: req}, req.Leash, progress)
}

// DeleteKernel takes a name of a kernel away, and with the last one the kernel.
func (c *Client) DeleteKernel(ctx context.Context, ref string) (banger.Kernel, error) {
	return ask[banger.Kernel](ctx, c, request{method: http.MethodDelete, path: api.RouteKernels, query: url.Values{"ref": {ref}}})
}

// ImportKernel makes a kernel of a package, or of a tar of one, and gives it a
// name. An error of the archive's own reader should be a *banger.Error.
func (c *Client) ImportKernel(ctx context.Context, name string, archive io.Reader) (banger.Kernel, error) {
	return ask[banger.Kernel](ctx, c, request{
		method: http.MethodPost, path: api.RouteKernelImport, query: url.Values{"name": {name}}, stream: archive, here: true,
	})
}
