// Package event is the log of what has happened: it writes events to the
// database and lets any number of readers follow from any id. A reader that is
// slow, or stops, holds up nobody: it reads from the database at its own pace.
package event

import (
	"context"
	"log/slog"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/request"
)

// Rows is where events are kept. Methods are safe for concurrent use.
type Rows interface {
	AppendEvent(ctx context.Context, owner int, e banger.Event) error
	Events(ctx context.Context, owner int, after int64, filter banger.EventFilter, limit int) ([]banger.Event, error)
	EventBounds(ctx context.Context) (newest, pruned int64, err error)
	LastEvent(ctx context.Context, owner int, vmID string) (banger.Event, error)
	Changed() <-chan struct{}
}

// Log is the events of one owner. All methods may be called from any goroutine.
type Log struct {
	Owner int
	Rows  Rows
	Log   *slog.Logger
}

// emitTimeout bounds the write of one event.
const emitTimeout = 5 * time.Second

// Emit writes an event; its id is given here, its time if it has none, and its
// request is that of ctx. An event that cannot be written is logged and lost:
// no verb fails for its sake. The end of ctx does not keep it from being written.
func (l *Log) Emit(ctx context.Context, e banger.Event) {
	if e.Request == "" {
		e.Request = request.ID(ctx)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), emitTimeout)
	defer cancel()
	if err := l.Rows.AppendEvent(ctx, l.Owner, e); err != nil {
		l.Log.ErrorContext(ctx, "an event is lost", "type", e.Type, "vm", e.VM, "err", err)
	}
}

// Last is the newest event of a VM, or the zero event.
func (l *Log) Last(ctx context.Context, vmID string) (banger.Event, error) {
	return l.Rows.LastEvent(ctx, l.Owner, vmID)
}

// Bounds are the id of the newest event there ever was, and that of the newest
// one that is pruned; 0 where there is none.
func (l *Log) Bounds(ctx context.Context) (newest, pruned int64, err error) {
	return l.Rows.EventBounds(ctx)
}

// batch is how many events are read at once.
const batch = 256

// Follow gives each the events after an id that filter wants, in order: those
// that are there and, with follow, those to come, until ctx ends or each returns
// an error, which is then Follow's. Events that were pruned before they could be
// read come as one banger.EventLost.
func (l *Log) Follow(ctx context.Context, after int64, filter banger.EventFilter, follow bool, each func(banger.Event) error) error {
	for {
		changed := l.Rows.Changed()
		newest, pruned, err := l.Rows.EventBounds(ctx)
		if err != nil {
			return err
		}
		if pruned > after {
			after = pruned
			if err := each(banger.Event{ID: after, Time: time.Now().UTC(), Type: banger.EventLost}); err != nil {
				return err
			}
		}
		events, err := l.Rows.Events(ctx, l.Owner, after, filter, batch)
		if err != nil {
			return err
		}
		if _, pruned, err = l.Rows.EventBounds(ctx); err != nil {
			return err
		}
		if pruned > after { // between the two: some may have been missed
			continue
		}
		for _, e := range events {
			if err := each(e); err != nil {
				return err
			}
			after = e.ID
		}
		if len(events) == batch {
			continue
		}
		after = max(after, newest) // what the filter left out has been looked at
		if !follow {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
