package client

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
)

// cancelPatience is how long an interrupted client waits for a cancelled
// operation to have cleaned up.
const cancelPatience = 15 * time.Second

// follow reads an operation's events until it has ended, and returns it as it
// was then, with its error.
//
// When ctx ends first and leash is set, the operation is cancelled and followed to
// its end, so that nothing of it is left when follow returns; otherwise it goes
// on in the daemon and follow returns at once.
func (c *Client) follow(ctx context.Context, op api.Operation, leash bool, progress banger.ProgressFunc) (api.Operation, error) {
	stream, hangUp := context.WithCancel(context.WithoutCancel(ctx))
	defer hangUp()
	id := op.ID // op changes below, at the same time
	defer context.AfterFunc(ctx, func() {
		defer hangUp()
		if leash {
			c.cancel(stream, id)
		}
	})()

	reply, err := c.send(stream, request{method: http.MethodGet, path: operationPath(api.RouteOperationEvents, op.ID), here: true})
	if err != nil {
		return op, c.broken(ctx, op, leash, err)
	}
	defer reply.Body.Close()
	decoder := json.NewDecoder(reply.Body)
	for {
		var event api.Operation
		if err := decoder.Decode(&event); err != nil {
			return op, c.broken(ctx, op, leash, err)
		}
		op = event
		if op.Status != api.OperationRunning {
			return op, outcome(op)
		}
		if op.Progress != nil {
			progress.Report(*op.Progress)
		}
	}
}

// cancel asks for an operation's end and waits until its follower has seen it,
// which ends stream.
func (c *Client) cancel(stream context.Context, id string) {
	ctx, done := context.WithTimeout(stream, cancelPatience)
	defer done()
	reply, err := c.send(ctx, request{method: http.MethodDelete, path: operationPath(api.RouteOperation, id), here: true})
	if err != nil {
		return // the leash does the same when we hang up
	}
	reply.Body.Close()
	<-ctx.Done()
}

// outcome is the error of an ended operation.
func outcome(op api.Operation) error {
	switch {
	case op.Status == api.OperationDone:
		return nil
	case op.Error == nil:
		return banger.Errorf(banger.KindInternal, "%s: %s, and the daemon does not say why", describe(op), op.Status).WithNext("banger daemon logs")
	}
	return op.Error
}

// broken is the error for events that ended before their operation.
func (c *Client) broken(ctx context.Context, op api.Operation, leash bool, err error) error {
	switch {
	case ctx.Err() != nil && leash:
		return banger.Errorf(banger.KindCancelled, "%s was interrupted; the daemon cleans up", describe(op))
	case ctx.Err() != nil:
		return banger.Errorf(banger.KindCancelled, "interrupted; %s goes on in the daemon", describe(op)).WithNext("banger vm list")
	case banger.KindOf(err) != banger.KindInternal && banger.KindOf(err) != banger.KindUnavailable:
		return err
	}
	return banger.Errorf(banger.KindUnavailable, "the daemon ended while %s was under way: %w", describe(op), err).WithNext("banger daemon logs")
}
