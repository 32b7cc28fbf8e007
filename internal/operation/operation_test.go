package operation

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"banger.dev/banger"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func registry() *Registry[string] { return New[string](slog.New(slog.DiscardHandler)) }

// untilCancelled is an operation that only a cancellation ends.
func untilCancelled(ctx context.Context, _ banger.ProgressFunc) (string, error) {
	<-ctx.Done()
	return "", ctx.Err()
}

// follow watches op to its end and returns its last state.
func follow(t *testing.T, op *Op[string]) Snapshot[string] {
	t.Helper()
	var last Snapshot[string]
	for last = range op.Watch(t.Context()) {
	}
	if last.Status == Running {
		t.Fatal("the watch ended before the operation")
	}
	return last
}

func TestDone(t *testing.T) {
	r := registry()
	op := r.Begin(context.Background(), "create", "box", false, func(_ context.Context, report banger.ProgressFunc) (string, error) {
		report(banger.Progress{Stage: "boot", Done: 3})
		return "made", nil
	})
	s := follow(t, op)
	if s.Status != Done || s.Result != "made" || s.Err != nil || s.Kind != "create" || s.Target != "box" || s.Ended.Before(s.Started) {
		t.Errorf("%+v", s)
	}
	if s.Progress == nil || s.Progress.Stage != "boot" {
		t.Errorf("the last progress is lost: %+v", s.Progress)
	}
	found, err := r.Get(s.ID)
	if err != nil || found.Snapshot().Status != Done {
		t.Errorf("Get after the end: %v", err)
	}
	if n := r.Running(); n != 0 {
		t.Errorf("%d running", n)
	}
	op.Cancel()
	if op.Snapshot().Status != Done {
		t.Error("Cancel changed an ended operation")
	}
	if _, err := r.Get("nothing"); banger.KindOf(err) != banger.KindNotFound {
		t.Errorf("unknown id: %v", err)
	}
}

func TestFailureKeepsItsError(t *testing.T) {
	cause := banger.Errorf(banger.KindNotFound, "no image").WithNext("banger image list")
	s := follow(t, registry().Begin(context.Background(), "create", "box", true, func(context.Context, banger.ProgressFunc) (string, error) { return "half", cause }))
	if s.Status != Failed || s.Err != cause || s.Result != "" {
		t.Errorf("%+v", s)
	}
}

func TestCancel(t *testing.T) {
	for name, work := range map[string]func(context.Context, banger.ProgressFunc) (string, error){
		"with the context's error": untilCancelled,
		"with another": func(ctx context.Context, _ banger.ProgressFunc) (string, error) {
			<-ctx.Done()
			return "", fmt.Errorf("left behind: %w", errors.New("a disk"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := registry()
			op := r.Begin(context.Background(), "create", "box", false, work)
			if n := r.Running(); n != 1 {
				t.Errorf("%d running", n)
			}
			op.Cancel()
			s := follow(t, op)
			if s.Status != Cancelled || banger.KindOf(s.Err) != banger.KindCancelled || !strings.Contains(s.Err.Error(), "create box was cancelled") {
				t.Errorf("%+v", s)
			}
			if strings.Contains(name, "another") && !strings.Contains(s.Err.Error(), "a disk") {
				t.Errorf("what went wrong on the way is lost: %v", s.Err)
			}
		})
	}
}

// What was finished in spite of a cancellation is done.
func TestCancelTooLate(t *testing.T) {
	op := registry().Begin(context.Background(), "start", "box", false, func(ctx context.Context, _ banger.ProgressFunc) (string, error) {
		<-ctx.Done()
		return "running", nil
	})
	op.Cancel()
	if s := follow(t, op); s.Status != Done || s.Result != "running" {
		t.Errorf("%+v", s)
	}
}

func TestPanicIsAFailure(t *testing.T) {
	for name, work := range map[string]func(context.Context, banger.ProgressFunc) (string, error){
		"panic":  func(context.Context, banger.ProgressFunc) (string, error) { panic("oh no") },
		"goexit": func(context.Context, banger.ProgressFunc) (string, error) { runtime.Goexit(); return "", nil },
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			r := New[string](slog.New(slog.NewTextHandler(&log, nil)))
			s := follow(t, r.Begin(context.Background(), "create", "box", false, work))
			if s.Status != Failed || banger.KindOf(s.Err) != banger.KindInternal || strings.Contains(s.Err.Error(), "oh no") {
				t.Errorf("%+v", s)
			}
			if err := r.Shutdown(t.Context()); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(log.String(), "operation_test.go") {
				t.Errorf("no stack in the log: %s", log.String())
			}
		})
	}
}

// A worker never waits for its watchers; a slow one sees the newest and the end.
func TestSlowWatcher(t *testing.T) {
	r := registry()
	started, reported, proceed := make(chan struct{}), make(chan struct{}), make(chan struct{})
	op := r.Begin(context.Background(), "create", "box", false, func(_ context.Context, report banger.ProgressFunc) (string, error) {
		<-started
		for n := range int64(1000) {
			report(banger.Progress{Stage: "pull", Done: n})
		}
		close(reported)
		<-proceed
		return "made", nil
	})
	seen := []Snapshot[string]{}
	for s := range op.Watch(t.Context()) {
		seen = append(seen, s)
		switch len(seen) {
		case 1:
			close(started)
			<-reported
		case 2:
			close(proceed)
		}
	}
	if len(seen) != 3 || seen[1].Progress.Done != 999 || seen[2].Status != Done {
		t.Errorf("seen: %+v", seen)
	}
}

func TestWatchersSeeTheSameEnd(t *testing.T) {
	r := registry()
	proceed := make(chan struct{})
	op := r.Begin(context.Background(), "create", "box", false, func(context.Context, banger.ProgressFunc) (string, error) { <-proceed; return "made", nil })
	ends := make(chan Status)
	for range 20 {
		go func() { ends <- follow(t, op).Status }()
	}
	close(proceed)
	for range 20 {
		if s := <-ends; s != Done {
			t.Errorf("%s", s)
		}
	}
}

func TestWatchEndsWithItsContext(t *testing.T) {
	r := registry()
	op := r.Begin(context.Background(), "create", "box", false, untilCancelled)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for s := range op.Watch(ctx) {
		if s.Status != Running {
			t.Errorf("%s", s.Status)
		}
		cancel()
	}
	if s := op.Snapshot(); s.Status != Running {
		t.Errorf("the watcher took the operation with it: %s", s.Status)
	}
	if err := r.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestLeash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := registry()
		op := r.Begin(context.Background(), "create", "box", true, untilCancelled)
		first, leaveFirst := context.WithCancel(t.Context())
		second, leaveSecond := context.WithCancel(t.Context())
		for _, ctx := range []context.Context{first, second} {
			go func() {
				for range op.Watch(ctx) {
				}
			}()
		}
		synctest.Wait()
		time.Sleep(time.Hour)
		leaveFirst()
		synctest.Wait()
		if s := op.Snapshot(); s.Status != Running {
			t.Errorf("ended while one still watched: %+v", s)
		}
		leaveSecond()
		synctest.Wait()
		if s := op.Snapshot(); s.Status != Cancelled || !strings.Contains(s.Err.Error(), "nobody waits") {
			t.Errorf("after the last has left: %+v", s)
		}
	})
}

func TestLeashWithoutAnyWatcher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := registry()
		onLeash := r.Begin(context.Background(), "create", "box", true, untilCancelled)
		free := r.Begin(context.Background(), "start", "box", false, untilCancelled)
		time.Sleep(attachWithin - time.Second)
		synctest.Wait()
		if s := onLeash.Snapshot(); s.Status != Running {
			t.Errorf("too early: %+v", s)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if s := onLeash.Snapshot(); s.Status != Cancelled {
			t.Errorf("on a leash: %+v", s)
		}
		if s := free.Snapshot(); s.Status != Running {
			t.Errorf("without: %+v", s)
		}
		if err := r.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestPruneByAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := registry()
		op := r.Begin(context.Background(), "create", "box", false, func(context.Context, banger.ProgressFunc) (string, error) { return "", nil })
		synctest.Wait()
		time.Sleep(keepFor)
		if _, err := r.Get(op.id()); err != nil {
			t.Errorf("after %s: %v", keepFor, err)
		}
		time.Sleep(time.Second)
		if _, err := r.Get(op.id()); banger.KindOf(err) != banger.KindNotFound {
			t.Errorf("later: %v", err)
		}
	})
}

func TestPruneByCount(t *testing.T) {
	r := registry()
	long := r.Begin(context.Background(), "create", "long", false, untilCancelled)
	var ids []string
	for range keepCount + 5 {
		op := r.Begin(context.Background(), "create", "box", false, func(context.Context, banger.ProgressFunc) (string, error) { return "", nil })
		follow(t, op)
		ids = append(ids, op.id())
	}
	if r.Running() != 1 || len(r.ops) != keepCount+1 {
		t.Errorf("%d running, %d kept", r.Running(), len(r.ops))
	}
	if _, err := r.Get(ids[4]); err == nil {
		t.Error("an old one is kept")
	}
	for _, id := range []string{long.id(), ids[5], ids[len(ids)-1]} {
		if _, err := r.Get(id); err != nil {
			t.Error(err)
		}
	}
	if err := r.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestShutdown(t *testing.T) {
	r := registry()
	op := r.Begin(context.Background(), "create", "box", false, untilCancelled)
	if err := r.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := op.Snapshot(); s.Status != Cancelled || banger.KindOf(s.Err) != banger.KindUnavailable || !strings.Contains(s.Err.Error(), "the daemon stops") {
		t.Errorf("%+v", s)
	}
	late := r.Begin(context.Background(), "create", "late", true, func(context.Context, banger.ProgressFunc) (string, error) {
		t.Error("it ran")
		return "", nil
	})
	if s := follow(t, late); s.Status != Failed || banger.KindOf(s.Err) != banger.KindUnavailable {
		t.Errorf("%+v", s)
	}
	if r.Running() != 0 {
		t.Errorf("%d running", r.Running())
	}
}

func TestShutdownGivesUpWithItsContext(t *testing.T) {
	r := registry()
	proceed := make(chan struct{})
	r.Begin(context.Background(), "create", "stubborn", false, func(context.Context, banger.ProgressFunc) (string, error) { <-proceed; return "", nil })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	close(proceed)
	if err := r.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// Who is told of an end is told before anybody can see it.
func TestTell(t *testing.T) {
	r := registry()
	var told []string
	r.Tell = func(_ context.Context, s Snapshot[string]) {
		now, err := r.Get(s.ID)
		if err != nil {
			t.Error(err)
			return
		}
		told = append(told, fmt.Sprint(s.Target, " ", s.Status, " ", now.Snapshot().Status, " ", s.Err))
	}
	follow(t, r.Begin(context.Background(), "create", "a", false, func(context.Context, banger.ProgressFunc) (string, error) { return "", nil }))
	follow(t, r.Begin(context.Background(), "create", "b", false, func(context.Context, banger.ProgressFunc) (string, error) { panic("oh no") }))
	want := "a running running <nil>; a done running <nil>; b running running <nil>; b failed running create b failed by a defect in banger"
	if got := strings.Join(told, "; "); got != want {
		t.Errorf("%s", got)
	}
}

// The list is what runs and what has ended lately, in the order of the begins.
func TestList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := registry()
		first := r.Begin(context.Background(), "create", "a", false, untilCancelled)
		time.Sleep(time.Second)
		follow(t, r.Begin(context.Background(), "start", "b", false, func(context.Context, banger.ProgressFunc) (string, error) { return "", nil }))
		if list := r.List(); len(list) != 2 || list[0].Target != "a" || list[0].Status != Running || list[1].Status != Done {
			t.Errorf("%+v", list)
		}
		time.Sleep(keepFor + time.Second)
		if list := r.List(); len(list) != 1 || list[0].Target != "a" {
			t.Errorf("%+v", list)
		}
		first.Cancel()
		follow(t, first)
	})
}
