package client

import (
	"context"
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

// ListPorts are the published ports of a VM.
func (c *Client) ListPorts(ctx context.Context, ref string) ([]banger.Port, error) {
	return askVM[[]banger.Port](ctx, c, http.MethodGet, api.RouteVMPorts, ref, nil, nil)
}

// AddPorts publishes ports of a VM, at once if it runs: all of them, or none
// after an error.
func (c *Client) AddPorts(ctx context.Context, ref string, ports []banger.Port) (api.VerbReply, error) {
	return askVM[api.VerbReply](ctx, c, http.MethodPost, api.RouteVMPorts, ref, nil, api.PortsRequest{Ports: ports})
}

// RemovePorts publishes those ports no more that names, each as
// banger.ParsePublished reads it, name.
func (c *Client) RemovePorts(ctx context.Context, ref string, names []string) (api.VerbReply, error) {
	return askVM[api.VerbReply](ctx, c, http.MethodDelete, api.RouteVMPorts, ref, url.Values{"port": names}, nil)
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
