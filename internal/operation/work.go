package operation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"

	"banger.dev/banger"
)

// work runs one operation to its end, whatever that is: a panic of run, or its
// leaving by runtime.Goexit, is a failure.
func (r *Registry[R]) work(ctx context.Context, op *Op[R], run func(context.Context, banger.ProgressFunc) (R, error)) {
	var result R
	var err error
	returned := false
	defer func() {
		if !returned {
			err = r.panicked(ctx, op, recover())
		}
		r.conclude(ctx, op, result, err)
	}()
	r.tell(ctx, op.Snapshot())
	result, err = run(ctx, op.report)
	returned = true
}

func (r *Registry[R]) panicked(ctx context.Context, op *Op[R], cause any) error {
	s := op.Snapshot()
	r.log.ErrorContext(ctx, "operation panicked", "operation", s.ID, "panic", fmt.Sprint(cause), "stack", string(debug.Stack()))
	return banger.Errorf(banger.KindInternal, "%s %s failed by a defect in banger", s.Kind, s.Target).WithNext("banger daemon logs")
}

// conclude makes the outcome known.
func (r *Registry[R]) conclude(ctx context.Context, op *Op[R], result R, err error) {
	status := Done
	switch {
	case err == nil:
	case ctx.Err() != nil:
		status, err = Cancelled, cancelled(op, context.Cause(ctx), err)
	default:
		status = Failed
		r.tellFailure(ctx, op, err)
	}
	r.tell(ctx, op.Snapshot().ended(status, result, err))
	r.mu.Lock()
	defer r.mu.Unlock()
	op.end(status, result, err)
	op.cancel(nil)
	r.ended = append(r.ended, op)
	r.prune()
}

func (r *Registry[R]) tell(ctx context.Context, s Snapshot[R]) {
	if r.Tell != nil {
		r.Tell(ctx, s)
	}
}

// tellFailure logs why op failed: as an error where the host or banger is to
// blame, not what was asked.
func (r *Registry[R]) tellFailure(ctx context.Context, op *Op[R], err error) {
	level := slog.LevelInfo
	if banger.KindOf(err) == banger.KindInternal {
		level = slog.LevelError
	}
	s := op.Snapshot()
	r.log.Log(ctx, level, "operation failed", "operation", s.ID, "kind", s.Kind, "target", s.Target, "err", err)
}

// cancelled is the error of a cancelled operation: why, and what else went
// wrong on the way out.
func cancelled[R any](op *Op[R], cause, err error) error {
	s := op.Snapshot()
	besides := ""
	if !errors.Is(err, context.Canceled) && banger.KindOf(err) != banger.KindCancelled {
		besides = fmt.Sprintf(" (%v)", err)
	}
	why := banger.Errorf(banger.KindCancelled, "%s %s was cancelled%s: %w", s.Kind, s.Target, besides, cause)
	if errors.Is(cause, errShutdown) { // nobody has wished that of this one
		why.Kind = banger.KindUnavailable
		return why.WithNext("the same again")
	}
	return why
}
