package monitor

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"banger.dev/banger/internal/agent/wire"
)

// Client asks the monitor of one VM. The zero value is of no use; see Connect.
// All methods may be called from any goroutine.
type Client struct {
	http *http.Client
}

// Connect makes a client for the monitor at a socket. It does not dial yet.
func Connect(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
	return &Client{http: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true, DisableCompression: true}}}
}

// Status asks how the VM is now.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var s Status
	return s, c.call(ctx, http.MethodGet, routeStatus, &s)
}

// Ready waits until the guest is ready. An error means that the VM has ended,
// or that ctx has.
func (c *Client) Ready(ctx context.Context) (Status, error) {
	var s Status
	return s, c.call(ctx, http.MethodGet, routeReady, &s)
}

// Init asks how far the image's init has got.
func (c *Client) Init(ctx context.Context) (wire.InitStatus, error) {
	var s wire.InitStatus
	return s, c.call(ctx, http.MethodGet, routeInit, &s)
}

// Shutdown asks the guest to power off and kills it after timeout; it returns
// when the VMM is gone.
func (c *Client) Shutdown(ctx context.Context, timeout time.Duration) (killed bool, err error) {
	var r shutdownReply
	err = c.call(ctx, http.MethodPost, routeShutdown+"?timeout_ms="+strconv.FormatInt(timeout.Milliseconds(), 10), &r)
	return r.Killed, err
}

// Kill ends the VM without asking the guest; it returns when the VMM is gone.
func (c *Client) Kill(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, routeKill, nil)
}

// Pause stops the guest's vCPUs.
func (c *Client) Pause(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, routePause, nil)
}

// Resume lets them go on.
func (c *Client) Resume(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, routeResume, nil)
}

// Watch calls each with every change of the status, the first being the present
// one, until the monitor is gone (nil) or ctx ends.
func (c *Client) Watch(ctx context.Context, each func(Status)) error {
	resp, err := c.do(ctx, http.MethodGet, routeEvents)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	dec := json.NewDecoder(resp.Body)
	for {
		var s Status
		if err := dec.Decode(&s); err != nil {
			return ctx.Err()
		}
		each(s)
	}
}

func (c *Client) call(ctx context.Context, method, route string, into any) error {
	resp, err := c.do(ctx, method, route)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if into == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(into)
}

// maxErrorText bounds what an error repeats of a reply.
const maxErrorText = 4 << 10

func (c *Client) do(ctx context.Context, method, route string) (*http.Response, error) {
	return c.send(ctx, method, route, http.NoBody)
}

func (c *Client) send(ctx context.Context, method, route string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://monitor"+route, body)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("the VM's monitor does not answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorText))
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusNotFound {
			return nil, ErrOld
		}
		return nil, fmt.Errorf("the VM's monitor: %s", strings.TrimSpace(string(text)))
	}
	return resp, nil
}
