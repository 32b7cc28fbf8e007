package apt

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"banger.dev/banger"
)

// Reach asks the mirror for the suite, without fetching it: nil if it answers.
func (r *Root) Reach(ctx context.Context) error {
	release := strings.TrimRight(r.sources.Mirror, "/") + "/dists/" + r.suite + "/InRelease"
	unreachable := func(err error) error {
		return banger.Errorf(banger.KindUnavailable, "the mirror %s does not answer: %w", r.sources.Mirror, err).
			WithNext("curl -fsSI %s", release)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, release, nil)
	if err != nil {
		return unreachable(err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	if proxy, err := url.Parse(r.sources.Proxy); err == nil && r.sources.Proxy != "" {
		transport.Proxy = http.ProxyURL(proxy)
	}
	reply, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		return unreachable(err)
	}
	_ = reply.Body.Close()
	if reply.StatusCode != http.StatusOK {
		return unreachable(errors.New(reply.Status))
	}
	return nil
}
