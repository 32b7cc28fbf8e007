package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
)

// Usage is what the home and its cache take on disk.
func (c *Client) Usage(ctx context.Context) (banger.DiskUsage, error) {
	return ask[banger.DiskUsage](ctx, c, request{method: http.MethodGet, path: api.RouteUsage})
}

// Prune removes what no VM needs; with all also what the next VM would be made
// of. With dry it only says what. A kind is one of a DiskEntry's; "" is all.
func (c *Client) Prune(ctx context.Context, kind string, all, dry bool) (banger.Pruned, error) {
	query := url.Values{"all": {strconv.FormatBool(all)}, "dry": {strconv.FormatBool(dry)}}
	if kind != "" {
		query.Set("kind", kind)
	}
	return ask[banger.Pruned](ctx, c, request{method: http.MethodPost, path: api.RoutePrune, query: query})
}
