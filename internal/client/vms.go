package client

import (
	"context"
	"io"
	"net/http"
	"net/url"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
)

// Ping says who answers, also when its interface is not ours.
func (c *Client) Ping(ctx context.Context) (api.Ping, error) {
	return ask[api.Ping](ctx, c, request{method: http.MethodGet, path: api.RoutePing, anyVersion: true})
}

// pingOnce is Ping of this daemon and no other.
func (c *Client) pingOnce(ctx context.Context) (api.Ping, error) {
	return ask[api.Ping](ctx, c, request{method: http.MethodGet, path: api.RoutePing, anyVersion: true, here: true})
}

// ListVMs is all VMs, the oldest first.
func (c *Client) ListVMs(ctx context.Context) ([]banger.VM, error) {
	return ask[[]banger.VM](ctx, c, request{method: http.MethodGet, path: api.RouteVMs})
}

// ShowVM is one VM with everything that is known of it.
func (c *Client) ShowVM(ctx context.Context, ref string) (banger.Detail, error) {
	return askVM[banger.Detail](ctx, c, http.MethodGet, api.RouteVM, ref, nil, nil)
}

// StopVM has the guest power off, and kills the VM if it does not in time.
func (c *Client) StopVM(ctx context.Context, ref string, req api.StopRequest) (api.VerbReply, error) {
	return askVM[api.VerbReply](ctx, c, http.MethodPost, api.RouteVMStop, ref, nil, req)
}

// KillVM ends a VM without asking the guest.
func (c *Client) KillVM(ctx context.Context, ref string) (api.VerbReply, error) {
	return askVM[api.VerbReply](ctx, c, http.MethodPost, api.RouteVMKill, ref, nil, nil)
}

// DeleteVM deletes a VM; with force it is killed first if it runs.
func (c *Client) DeleteVM(ctx context.Context, ref string, force bool) (api.VerbReply, error) {
	var query url.Values
	if force {
		query = url.Values{"force": {"true"}}
	}
	return askVM[api.VerbReply](ctx, c, http.MethodDelete, api.RouteVM, ref, query, nil)
}

// LogsVM is a VM's console as it is now, a time stamp a line. A read error means
// that there was more.
func (c *Client) LogsVM(ctx context.Context, ref string) (io.ReadCloser, error) {
	path, err := vmPath(api.RouteVMLogs, ref)
	if err != nil {
		return nil, err
	}
	reply, err := c.send(ctx, request{method: http.MethodGet, path: path})
	if err != nil {
		return nil, err
	}
	return reply.Body, nil
}

// CreateVM makes a VM, and starts it if req says so. It returns when that is
// done, and gives progress the daemon's reports until then; progress may be nil.
// See follow for what happens when ctx ends.
func (c *Client) CreateVM(ctx context.Context, req api.CreateRequest, progress banger.ProgressFunc) (api.Operation, error) {
	op, err := ask[api.Operation](ctx, c, request{method: http.MethodPost, path: api.RouteVMs, body: req})
	if err != nil {
		return op, err
	}
	return c.follow(ctx, op, req.Leash, progress)
}

// StartVM boots a VM, and returns when that is done; progress may be nil.
func (c *Client) StartVM(ctx context.Context, ref string, req api.StartRequest, progress banger.ProgressFunc) (api.Operation, error) {
	op, err := askVM[api.Operation](ctx, c, http.MethodPost, api.RouteVMStart, ref, nil, req)
	if err != nil {
		return op, err
	}
	return c.follow(ctx, op, false, progress)
}

func askVM[T any](ctx context.Context, c *Client, method, route, ref string, query url.Values, body any) (T, error) {
	path, err := vmPath(route, ref)
	if err != nil {
		var none T
		return none, err
	}
	return ask[T](ctx, c, request{method: method, path: path, query: query, body: body})
}
