package event_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	"banger.dev/banger"
	"banger.dev/banger/internal/event"
	"banger.dev/banger/internal/request"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rows are events in memory, of which few are kept.
type rows struct {
	mu      sync.Mutex
	list    []banger.Event
	newest  int64
	keep    int
	changed chan struct{}
	fail    error
}

func newRows(keep int) *rows { return &rows{keep: keep, changed: make(chan struct{})} }

func (r *rows) AppendEvent(ctx context.Context, _ int, e banger.Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail != nil || ctx.Err() != nil {
		return errors.Join(r.fail, ctx.Err())
	}
	r.newest++
	e.ID = r.newest
	r.list = append(r.list, e)
	r.list = r.list[max(0, len(r.list)-r.keep):]
	close(r.changed)
	r.changed = make(chan struct{})
	return nil
}

func (r *rows) Events(_ context.Context, _ int, after int64, filter banger.EventFilter, limit int) ([]banger.Event, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []banger.Event
	for _, e := range r.list {
		if e.ID > after && len(out) < limit && (len(filter.Types) == 0 || slices.Contains(filter.Types, e.Type)) {
			out = append(out, e)
		}
	}
	return out, nil
}

func (r *rows) EventBounds(context.Context) (newest, pruned int64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.newest, r.newest - int64(len(r.list)), nil
}

func (r *rows) LastEvent(context.Context, int, string) (banger.Event, error) {
	return banger.Event{}, nil
}

func (r *rows) Changed() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changed
}

// follower collects the ids it is given; lost ones count as negative.
func follower(into *[]int64) func(banger.Event) error {
	return func(e banger.Event) error {
		if e.Type == banger.EventLost {
			e.ID = -e.ID
		}
		*into = append(*into, e.ID)
		return nil
	}
}

func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &event.Log{Rows: newRows(10), Log: slog.New(slog.DiscardHandler)}
		ctx, cancel := context.WithCancel(t.Context())
		gone, stop := context.WithCancel(ctx)
		stop()
		log.Emit(gone, banger.Event{Type: "a"}) // also for one who is gone
		var all, some []int64
		done := make(chan error, 2)
		go func() { done <- log.Follow(ctx, 0, banger.EventFilter{}, true, follower(&all)) }()
		go func() {
			done <- log.Follow(ctx, 0, banger.EventFilter{Types: []banger.EventType{"b"}}, true, follower(&some))
		}()
		for _, kind := range []banger.EventType{"b", "a", "b"} {
			synctest.Wait()
			log.Emit(ctx, banger.Event{Type: kind})
		}
		// The filter leaves all of these out, and none of them is lost to it.
		for range 30 {
			synctest.Wait()
			log.Emit(ctx, banger.Event{Type: "c"})
		}
		log.Emit(ctx, banger.Event{Type: "b"})
		synctest.Wait()
		cancel()
		for range 2 {
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
		if len(all) != 35 || !slices.IsSorted(all) || all[0] != 1 {
			t.Errorf("%v", all)
		}
		if !slices.Equal(some, []int64{2, 4, 35}) {
			t.Errorf("%v", some)
		}
	})
}

// A reader that falls behind is told what it has missed, and holds up nobody.
func TestASlowReaderIsToldOfTheGap(t *testing.T) {
	log := &event.Log{Rows: newRows(3), Log: slog.New(slog.DiscardHandler)}
	emit := func(n int) {
		for range n {
			log.Emit(t.Context(), banger.Event{Type: "a"})
		}
	}
	emit(2)
	var got []int64
	slow := follower(&got)
	err := log.Follow(t.Context(), 0, banger.EventFilter{}, false, func(e banger.Event) error {
		if e.ID == 2 {
			emit(300) // while it is busy with this one
		}
		return slow(e)
	})
	if err != nil || !slices.Equal(got, []int64{1, 2}) {
		t.Errorf("%v %v", got, err)
	}
	got = nil
	if err := log.Follow(t.Context(), 2, banger.EventFilter{}, false, follower(&got)); err != nil || !slices.Equal(got, []int64{-299, 300, 301, 302}) {
		t.Errorf("%v %v", got, err)
	}
}

func TestEmit(t *testing.T) {
	r := newRows(3)
	log := &event.Log{Rows: r, Log: slog.New(slog.DiscardHandler)}
	log.Emit(request.With(t.Context(), "abcd"), banger.Event{Type: "a"})
	if r.list[0].Request != "abcd" {
		t.Errorf("%+v", r.list)
	}
	r.fail = errors.New("the disk is full")
	log.Emit(t.Context(), banger.Event{Type: "a"}) // no verb fails for it
}
