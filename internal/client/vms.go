package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

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

// PauseVM stops a VM's vCPUs.
func (c *Client) PauseVM(ctx context.Context, ref string) (api.VerbReply, error) {
	return askVM[api.VerbReply](ctx, c, http.MethodPost, api.RouteVMPause, ref, nil, nil)
}

// ResumeVM lets a paused VM's vCPUs go on.
func (c *Client) ResumeVM(ctx context.Context, ref string) (api.VerbReply, error) {
	return askVM[api.VerbReply](ctx, c, http.MethodPost, api.RouteVMResume, ref, nil, nil)
}

// waitAsk is how long one request of a wait takes.
const waitAsk = 30 * time.Second

// WaitVM waits until a VM is stopped, running or ready, or the time is up, which
// is when reached is false; a timeout of 0 is none. Daemons may come and go
// meanwhile.
func (c *Client) WaitVM(ctx context.Context, ref, until string, timeout time.Duration) (api.WaitReply, error) {
	begun := time.Now()
	for {
		left := waitAsk
		if timeout != 0 {
			left = min(left, timeout-time.Since(begun))
		}
		query := url.Values{"for": {until}, "timeout_ms": {strconv.FormatInt(max(left.Milliseconds(), 1), 10)}}
		reply, err := askVM[api.WaitReply](ctx, c, http.MethodGet, api.RouteVMWait, ref, query, nil)
		if err != nil || reply.Reached || (timeout != 0 && time.Since(begun) >= timeout) {
			return reply, err
		}
		ref = reply.VM.ID // another may have its name by now
	}
}

// DeleteVM deletes a VM; with force it is killed first if it runs.
func (c *Client) DeleteVM(ctx context.Context, ref string, force bool) (api.VerbReply, error) {
	var query url.Values
	if force {
		query = url.Values{"force": {"true"}}
	}
	return askVM[api.VerbReply](ctx, c, http.MethodDelete, api.RouteVM, ref, query, nil)
}

// Stats is what these VMs take, or without refs those that are alive.
func (c *Client) Stats(ctx context.Context, refs []string) ([]banger.Stats, error) {
	return ask[[]banger.Stats](ctx, c, request{method: http.MethodGet, path: api.RouteStats, query: url.Values{"vm": refs}})
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
	return c.operate(ctx, request{method: http.MethodPost, path: api.RouteVMs, body: req}, req.Leash, progress)
}

// StartVM boots a VM, and returns when that is done; progress may be nil. When
// ctx ends it is cancelled; the death of this process alone does not end it.
func (c *Client) StartVM(ctx context.Context, ref string, req api.StartRequest, progress banger.ProgressFunc) (api.Operation, error) {
	return c.operateVM(ctx, http.MethodPost, api.RouteVMStart, ref, req, true, progress)
}

// RestartVM stops a VM and boots it again; otherwise it is as StartVM.
func (c *Client) RestartVM(ctx context.Context, ref string, req api.RestartRequest, progress banger.ProgressFunc) (api.Operation, error) {
	return c.operateVM(ctx, http.MethodPost, api.RouteVMRestart, ref, req, true, progress)
}

// ResetVM throws away what a VM has written over its image; otherwise it is as
// StartVM.
func (c *Client) ResetVM(ctx context.Context, ref string, req api.ResetRequest, progress banger.ProgressFunc) (api.Operation, error) {
	return c.operateVM(ctx, http.MethodPost, api.RouteVMReset, ref, req, true, progress)
}

// SetVM changes a VM's spec; otherwise it is as StartVM.
func (c *Client) SetVM(ctx context.Context, ref string, req api.SetRequest, progress banger.ProgressFunc) (api.Operation, error) {
	return c.operateVM(ctx, http.MethodPatch, api.RouteVM, ref, req, true, progress)
}

// operate asks for an operation, and follows it until it is done.
func (c *Client) operate(ctx context.Context, r request, leash bool, progress banger.ProgressFunc) (api.Operation, error) {
	op, err := ask[api.Operation](ctx, c, r)
	if err != nil {
		return op, err
	}
	return c.follow(ctx, op, leash, progress)
}

func (c *Client) operateVM(ctx context.Context, method, route, ref string, body any, leash bool, progress banger.ProgressFunc) (api.Operation, error) {
	path, err := vmPath(route, ref)
	if err != nil {
		return api.Operation{}, err
	}
	return c.operate(ctx, request{method: method, path: path, body: body}, leash, progress)
}

func askVM[T any](ctx context.Context, c *Client, method, route, ref string, query url.Values, body any) (T, error) {
	path, err := vmPath(route, ref)
	if err != nil {
		var none T
		return none, err
	}
	return ask[T](ctx, c, request{method: method, path: path, query: query, body: body})
}
