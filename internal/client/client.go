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

	"golang.org/x/sys/unix"

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
	http   *http.Client
	pid    int // of the daemon that was reached first

	// mu guards what follows.
	mu    sync.Mutex
	auto  Autostart
	ready net.Conn // dialled by Connect, for the first request; nil once taken
}

// newClient makes a client whose every request has a connection of its own: on
// one that has waited, a daemon that ends may or may not have read a request.
func newClient(layout paths.Layout, conn net.Conn, auto Autostart) *Client {
	c := &Client{layout: layout, pid: pidOf(conn), ready: conn, auto: auto}
	c.http = &http.Client{Transport: &http.Transport{
		DialContext:        c.dial,
		DisableCompression: true,
		DisableKeepAlives:  true,
	}}
	return c
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

// Close gives up the connections that no request uses.
func (c *Client) Close() {
	if conn := c.takeReady(); conn != nil {
		conn.Close()
	}
	c.http.CloseIdleConnections()
}

func (c *Client) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	if conn := c.takeReady(); conn != nil {
		return newHeard(conn), nil
	}
	conn, err := ipc.Dial(ctx, c.layout.DaemonSocket())
	if err != nil {
		return nil, err
	}
	return newHeard(conn), nil
}

// heard is a connection that tells an end before anything was written, which is
// a request that nobody has heard, from one after.
type heard struct {
	net.Conn
	writing sync.Mutex // an end that is read meanwhile waits to know what became of it
	wrote   bool
	ended   chan struct{} // closed when nothing more can be read
	end     func()
}

func newHeard(conn net.Conn) *heard {
	ended := make(chan struct{})
	return &heard{Conn: conn, ended: ended, end: sync.OnceFunc(func() { close(ended) })}
}

func (h *heard) Close() error {
	h.end()
	return h.Conn.Close()
}

func (h *heard) Write(p []byte) (int, error) {
	h.writing.Lock()
	defer h.writing.Unlock()
	n, err := h.Conn.Write(p)
	h.wrote = h.wrote || n > 0
	return n, err
}

func (h *heard) Read(p []byte) (int, error) {
	n, err := h.Conn.Read(p)
	if err != nil {
		h.end()
	}
	if errors.Is(err, io.EOF) && h.unheard() {
		err = unix.ECONNRESET
	}
	return n, err
}

func (h *heard) unheard() bool {
	h.writing.Lock()
	defer h.writing.Unlock()
	return !h.wrote
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
	if r.stream != nil {
		ctx, r.stream = feed(ctx, r.stream)
	}
	req, err := r.http(ctx)
	if err != nil {
		return nil, err
	}
	reply, err := c.http.Do(req)
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
	return banger.Errorf(banger.KindUnavailable, "%w: %s", errLost, bare(err)).WithNext("banger daemon logs")
}

// bare is err without the method and the made-up URL that net/http puts before it.
func bare(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
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
