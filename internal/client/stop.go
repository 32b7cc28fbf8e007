package client

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
	"banger.dev/banger/internal/ipc"
	"banger.dev/banger/internal/paths"
)

// stopTimeout is how long a daemon may take to end: it ends its operations first.
const stopTimeout = time.Minute

// StopDaemon asks the daemon to end, whatever its version, and returns when it
// has: the next one can be started then. VMs go on. This client starts none.
func (c *Client) StopDaemon(ctx context.Context) error {
	pid, err := c.tellStop(ctx, nil)
	if err != nil {
		return err
	}
	c.disown()
	return awaitEnd(ctx, c.layout, pid)
}

// tellStop gives the pid of the daemon that will end.
func (c *Client) tellStop(ctx context.Context, query url.Values) (pid int, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	ping, err := c.pingOnce(ctx)
	if err != nil {
		return 0, err
	}
	reply, err := c.send(ctx, request{method: http.MethodPost, path: api.RouteDaemonStop, query: query, anyVersion: true, here: true})
	if err != nil {
		return 0, err
	}
	reply.Body.Close()
	c.Close() // an open connection would be waited for
	return ping.PID, nil
}

// endPoll is how often an ending daemon is looked at.
const endPoll = 10 * time.Millisecond

// awaitEnd waits until the daemon with this pid has ended: its lock is free, or
// the next one answers already.
func awaitEnd(ctx context.Context, layout paths.Layout, pid int) error {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	tick := time.NewTicker(endPoll)
	defer tick.Stop()
	for {
		lock, err := ipc.Lock(layout.DaemonLock())
		if err == nil {
			return lock.Release()
		}
		if !errors.Is(err, ipc.ErrHeld) {
			return err
		}
		if conn, err := ipc.Dial(ctx, layout.DaemonSocket()); err == nil {
			now := pidOf(conn)
			conn.Close()
			if now != pid {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return banger.Errorf(banger.KindUnavailable, "the daemon (pid %d) was told to stop and has not ended yet: %w", pid, ctx.Err()).WithNext("banger daemon logs")
		case <-tick.C:
		}
	}
}
