package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"banger.dev/banger"
)

// guarded is the way to every registry and to whom it sends us: in the clear
// only where the user allows it, with replies that are bounded, and given up
// when nothing comes.
type guarded struct {
	base  http.RoundTripper
	plain []string
	stall time.Duration
	asked *atomic.Int32 // requests for anything but layers
}

// maxRequests bounds what it takes to find an image: tokens, redirects, an index,
// a manifest, a configuration.
const maxRequests = 50

func (c *Client) transport() http.RoundTripper {
	base := c.Base
	if base == nil {
		base = http.DefaultTransport
	}
	return guarded{base: base, plain: c.Settings.PlainHTTP, stall: c.stall(), asked: &atomic.Int32{}}
}

func (c *Client) stall() time.Duration {
	if c.Stall == 0 {
		return DefaultStall
	}
	return c.Stall
}

func (g guarded) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme == "http" && !g.mayBePlain(r.URL.Host) {
		return nil, banger.Errorf(banger.KindUnavailable, "%s is to be asked without TLS, which is allowed for loopback addresses and registries.plain_http only", r.URL.Host).
			WithNext("banger config show")
	}
	ofLayer := r.Header.Get(layerHeader) != ""
	if !ofLayer && g.asked.Add(1) > maxRequests {
		return nil, banger.Errorf(banger.KindUnavailable, "%s takes more than %d requests to describe an image: it sends us round in a circle", r.URL.Host, maxRequests)
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	timer := time.AfterFunc(g.stall, func() { cancel(errStalled) })
	reply, err := g.base.RoundTrip(r.WithContext(ctx))
	if err != nil {
		timer.Stop()
		cancel(nil)
		return nil, stalled(ctx, err)
	}
	limit := int64(maxManifest)
	if strings.Contains(r.URL.Path, "/blobs/") || ofLayer {
		limit = -1 // the caller knows its size
	}
	reply.Body = &patient{body: reply.Body, ctx: ctx, cancel: cancel, timer: timer, stall: g.stall, left: limit}
	return reply, nil
}

// layerHeader marks the requests for layers, also after a redirect.
const layerHeader = "X-Banger-Layer"

func (g guarded) mayBePlain(host string) bool {
	alone, _, err := net.SplitHostPort(host)
	if err != nil {
		alone = host
	}
	ip := net.ParseIP(strings.Trim(alone, "[]"))
	return alone == "localhost" || ip != nil && ip.IsLoopback() || slices.Contains(g.plain, host)
}

var errStalled = errors.New("it sends nothing")

// stalled puts the reason of a cancelled request in the place of its error.
func stalled(ctx context.Context, err error) error {
	if err != nil && errors.Is(context.Cause(ctx), errStalled) {
		return fmt.Errorf("%w: %w", errStalled, err)
	}
	return err
}

// patient is a reply's body. It ends when nothing comes for too long, and after
// left bytes unless that is negative.
type patient struct {
	body   io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	stall  time.Duration
	left   int64
}

func (p *patient) Read(b []byte) (int, error) {
	p.timer.Reset(p.stall)
	n, err := p.body.Read(b)
	p.timer.Stop()
	if p.left >= 0 {
		if p.left -= int64(n); p.left < 0 {
			return 0, banger.Errorf(banger.KindInvalid, "the registry sends more than %s to describe an image", banger.Bytes(maxManifest))
		}
	}
	if err == io.EOF {
		return n, err
	}
	return n, stalled(p.ctx, err)
}

func (p *patient) Close() error {
	p.timer.Stop()
	err := p.body.Close()
	p.cancel(nil)
	return err
}
