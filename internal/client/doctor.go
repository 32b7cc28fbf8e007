package client

import (
	"context"
	"net/http"

	"banger.dev/banger/internal/api"
)

// Examine is what the daemon says of its home; with fix, after it has removed
// what is left over there.
func (c *Client) Examine(ctx context.Context, fix bool) (api.DoctorReply, error) {
	method := http.MethodGet
	if fix {
		method = http.MethodPost
	}
	return ask[api.DoctorReply](ctx, c, request{method: method, path: api.RouteDoctor})
}
