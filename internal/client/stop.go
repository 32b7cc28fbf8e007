package client

import (
	"context"
	"net/http"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
	"banger.dev/banger/internal/ipc"
)

// stopTimeout is how long a daemon may take to end: it ends its operations first.
const stopTimeout = 30 * time.Second

// StopDaemon asks the daemon to end, whatever its version, and returns when it
// has: the next one can be started then. VMs go on.
func (c *Client) StopDaemon(ctx context.Context) error {
	reply, err := c.send(ctx, request{method: http.MethodPost, path: api.RouteDaemonStop, anyVersion: true})
	if err != nil {
		return err
	}
	reply.Body.Close()
	c.Close() // an open connection would be waited for
	return c.ended(ctx)
}

// ended waits until the daemon's lock is free. Holding the start lock meanwhile
// keeps other clients from starting a daemon that would find its lock taken by us.
func (c *Client) ended(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	start, err := ipc.LockWait(ctx, c.layout.StartLock())
	if err != nil {
		return err
	}
	defer start.Release()
	lock, err := ipc.LockWait(ctx, c.layout.DaemonLock())
	if err != nil {
		return banger.Errorf(banger.KindOf(err), "the daemon was told to stop and has not ended yet: %w", err).WithNext("banger daemon logs")
	}
	return lock.Release()
}
