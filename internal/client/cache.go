package client

import (
	"context"
	"io"
	"net/http"
	"net/url"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
)

// ListImages is all images in the cache, sorted by name.
func (c *Client) ListImages(ctx context.Context) ([]banger.Image, error) {
	return ask[[]banger.Image](ctx, c, request{method: http.MethodGet, path: api.RouteImages})
}

// Catalog is what images can be had by name, and which are here.
func (c *Client) Catalog(ctx context.Context) ([]banger.CatalogImage, error) {
	return ask[[]banger.CatalogImage](ctx, c, request{method: http.MethodGet, path: api.RouteImageCatalog})
}

// LookupImage is what a name of an image stands for, without asking anybody.
func (c *Client) LookupImage(ctx context.Context, ref string) (api.ImageLookup, error) {
	return ask[api.ImageLookup](ctx, c, request{method: http.MethodGet, path: api.RouteImageLookup, query: url.Values{"ref": {ref}}})
}

// PullImage gets the newest image of a name, and returns when that is done;
// progress may be nil.
func (c *Client) PullImage(ctx context.Context, req api.PullRequest, progress banger.ProgressFunc) (api.Operation, error) {
	return c.operate(ctx, request{method: http.MethodPost, path: api.RouteImagePull, body: req}, req.Leash, progress)
}

// DeleteImage takes a name of an image away, and with the last one the image.
func (c *Client) DeleteImage(ctx context.Context, ref string) (banger.Image, error) {
	return ask[banger.Image](ctx, c, request{method: http.MethodDelete, path: api.RouteImages, query: url.Values{"ref": {ref}}})
}

// ImportImage makes an image of an archive of one, or of a tar of a root, and
// gives it a name. An error of the archive's own reader should be a *banger.Error.
func (c *Client) ImportImage(ctx context.Context, name string, archive io.Reader) (banger.Image, error) {
	return ask[banger.Image](ctx, c, request{
		method: http.MethodPost, path: api.RouteImageImport, query: url.Values{"name": {name}}, stream: archive, here: true,
	})
}

// RegisterImage makes an image of an ext4 file system, of which file is a tar,
// and gives it a name. An error of the reader should be a *banger.Error.
func (c *Client) RegisterImage(ctx context.Context, name string, file io.Reader) (banger.Image, error) {
	return ask[banger.Image](ctx, c, request{
		method: http.MethodPost, path: api.RouteImageRegister, query: url.Values{"name": {name}}, stream: file, here: true,
	})
}

// CommitImage makes an image of a stopped VM, and returns when that is done;
// progress may be nil.
func (c *Client) CommitImage(ctx context.Context, ref string, req api.CommitRequest, progress banger.ProgressFunc) (api.Operation, error) {
	return c.operateVM(ctx, http.MethodPost, api.RouteVMCommit, ref, req, req.Leash, progress)
}
