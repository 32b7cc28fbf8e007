package cli

import (
	"context"
	"net"
	"net/http"

	"banger.dev/banger"
)

// holdLease tells a VM's monitor that somebody wants the VM. The monitor kills
// it as soon as the connection is gone, however this process ends.
func holdLease(ctx context.Context, vm, socket string) (release func(), err error) {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
		DisableKeepAlives: true,
	}
	ctx, cancel := context.WithCancel(ctx)
	fail := func(err error) error {
		cancel()
		return banger.Errorf(banger.KindUnavailable, "the monitor of %s does not answer: %w", vm, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://monitor/lease", nil)
	if err != nil {
		return nil, fail(err)
	}
	reply, err := transport.RoundTrip(req)
	if err != nil {
		return nil, fail(err)
	}
	release = func() {
		cancel()
		_ = reply.Body.Close()
	}
	if reply.StatusCode != http.StatusOK {
		release()
		return nil, banger.Errorf(banger.KindUnavailable, "the monitor of %s gives no lease: %s", vm, reply.Status)
	}
	return release, nil
}
