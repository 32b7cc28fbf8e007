// Package client speaks to the daemon for the command line: typed requests over
// the unix socket, errors as banger.Error with the kind that the daemon gave
// them, and starting the daemon when nobody answers. It prints nothing and
// reaches no guest; internal/guest does that.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
	"banger.dev/banger/internal/ipc"
	"banger.dev/banger/internal/paths"
	"banger.dev/banger/internal/version"
)

// ErrNotRunning is the cause of the errors of a daemon that is not there.
var ErrNotRunning = errors.New("the daemon is not running")

// ErrSkew is the cause of the errors of a daemon with another interface: waiting
// for it to answer is of no use.
var ErrSkew = errors.New("another version of the interface")

// errLost is the cause of the errors of a request that got no whole reply.
var errLost = errors.New("the daemon ended while it was asked")

// maxErrorBody bounds what is read of a reply that says what is wrong.
const maxErrorBody = 1 << 20

// Client is a connection to one daemon. All methods may be called from any
// goroutine. Errors are *banger.Error: the daemon's own, or KindUnavailable
// when it does not answer, or KindCancelled when ctx has ended.
type Client struct {
	layout paths.Layout
	pid    int // of the daemon that was reached first

	// mu guards what follows.
	mu    sync.Mutex
	auto  Autostart
	ready net.Conn // dialled by Connect, for the first request; nil once taken
}

func newClient(layout paths.Layout, conn net.Conn, auto Autostart) *Client {
	return &Client{layout: layout, pid: pidOf(conn), ready: conn, auto: auto}
}

// disown has c start no daemon any more.
func (c *Client) disown() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.auto.Disabled = true
}

func (c *Client) autostart() Autostart {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.auto
}

// Close gives up a connection that no request has used.
func (c *Client) Close() {
	if conn := c.takeReady(); conn != nil {
		conn.Close()
	}
}

func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	if conn := c.takeReady(); conn != nil {
		return conn, nil
	}
	return ipc.Dial(ctx, c.layout.DaemonSocket())
}

func (c *Client) takeReady() net.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	conn := c.ready
	c.ready = nil
	return conn
}

// request is one question to the daemon.
type request struct {
	method, path string
	query        url.Values
	body         any       // nil: none
	stream       io.Reader // the body as it is, instead
	anyVersion   bool      // the answer is of use from a daemon with another interface too
	here         bool      // another daemon could not do it
}

// maxTries bounds how often a request goes to the next daemon.
const maxTries = 5

// send asks, and returns a reply that is no error; its body is the caller's to
// close. What a daemon that just ends has not heard goes to the next one.
func (c *Client) send(ctx context.Context, r request) (*http.Response, error) {
	for try := 1; ; try++ {
		reply, err := c.sendOnce(ctx, r)
		auto := c.autostart()
		if err == nil || r.here || auto.Disabled || try == maxTries || !again(r, err) {
			return reply, err
		}
		next, err := auto.start(ctx, c.layout)
		if err != nil {
			return nil, err
		}
		next.Close()
	}
}

// again says whether r may be sent once more: nobody has heard it, or it only
// asked.
func again(r request, err error) bool {
	return unheard(err) || r.method == http.MethodGet && errors.Is(err, errLost)
}

func (c *Client) sendOnce(ctx context.Context, r request) (*http.Response, error) {
	req, err := r.http(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, c.unanswered(ctx, err)
	}
	reply, err := exchange(ctx, conn, req, r.stream != nil)
	if err != nil {
		return nil, c.unanswered(ctx, err)
	}
	if err := c.check(reply, r.anyVersion); err != nil {
		reply.Body.Close()
		return nil, err
	}
	return reply, nil
}

// ask sends r and decodes the reply.
func ask[T any](ctx context.Context, c *Client, r request) (T, error) {
	var v T
	reply, err := c.send(ctx, r)
	if err != nil {
		return v, err
	}
	defer reply.Body.Close()
	if err := json.NewDecoder(reply.Body).Decode(&v); err != nil {
		return v, c.unanswered(ctx, err)
	}
	return v, nil
}

func (r request) http(ctx context.Context) (*http.Request, error) {
	body := r.stream
	if r.body != nil {
		content, err := json.Marshal(r.body)
		if err != nil {
			return nil, banger.Errorf(banger.KindInternal, "encode the request: %w", err)
		}
		body = bytes.NewReader(content)
	}
	target := "http://bangerd" + r.path
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, body)
	if err != nil {
		return nil, banger.Errorf(banger.KindInternal, "make the request: %w", err)
	}
	if r.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return req, nil
}

// unanswered is the error for a request that got no whole reply.
func (c *Client) unanswered(ctx context.Context, err error) error {
	var known *banger.Error
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return banger.Errorf(banger.KindCancelled, "interrupted while the daemon was asked: %w", ctx.Err())
	case ctx.Err() != nil:
		return mute(c.pid)
	case errors.Is(err, ipc.ErrNobody):
		return notRunning()
	case unheard(err):
		return &unheardError{notRunning()}
	case errors.As(err, &known):
		return known
	}
	return banger.Errorf(banger.KindUnavailable, "%w: %s", errLost, err).WithNext("banger daemon logs")
}

func notRunning() error {
	return banger.Errorf(banger.KindUnavailable, "%w", ErrNotRunning).WithNext("banger daemon start")
}

// check reads what a reply says before its body: who answers, and whether it is
// an error.
func (c *Client) check(reply *http.Response, anyVersion bool) error {
	spoken, err := strconv.Atoi(reply.Header.Get(api.HeaderAPI))
	if err != nil {
		return banger.Errorf(banger.KindUnavailable, "what answers at %s is not banger's daemon", c.layout.DaemonSocket()).
			WithNext("rm %s", c.layout.DaemonSocket())
	}
	if reply.Header.Get(api.HeaderLeaving) != "" {
		return &unheardError{notRunning()}
	}
	if spoken != api.Version && !anyVersion {
		return skew(spoken, reply.Header.Get(api.HeaderVersion))
	}
	if reply.StatusCode < 400 {
		return nil
	}
	var said api.ErrorReply
	content, err := io.ReadAll(io.LimitReader(reply.Body, maxErrorBody))
	if err == nil {
		err = json.Unmarshal(content, &said)
	}
	if err != nil || said.Error.Message == "" {
		return banger.Errorf(banger.KindInternal, "the daemon answered %s and does not say why", reply.Status).WithNext("banger daemon logs")
	}
	return &said.Error
}

// skew is the error for a daemon of another build with another interface.
func skew(spoken int, build string) error {
	err := banger.Errorf(banger.KindUnavailable, "the daemon (%s) speaks version %d of their interface, this banger (%s) version %d",
		build, spoken, version.String(), api.Version)
	err.Err = ErrSkew
	if spoken > api.Version {
		return err.WithNext("upgrade banger, or give this build a BANGER_HOME of its own")
	}
	return err.WithNext("banger daemon stop")
}

// vmPath is a route about the VM with this ref. One that no VM can have and that
// a path cannot hold is answered here, as the daemon would.
func vmPath(route, ref string) (string, error) {
	if ref == "" || ref == "." || ref == ".." || strings.ContainsAny(ref, "/\x00") {
		return "", banger.Errorf(banger.KindNotFound, "no VM named %q", ref).WithNext("banger vm list")
	}
	return strings.Replace(route, "{ref}", url.PathEscape(ref), 1), nil
}

// operationPath is a route about an operation.
func operationPath(route, id string) string {
	return strings.Replace(route, "{id}", url.PathEscape(id), 1)
}

// describe names an operation in a sentence.
func describe(op api.Operation) string {
	if op.Target == "" {
		return op.Kind
	}
	return fmt.Sprintf("%s %s", op.Kind, op.Target)
}
