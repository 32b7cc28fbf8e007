package monitor

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"banger.dev/banger/internal/agent/wire"
	"banger.dev/banger/internal/vmm/vmmtest/fakeguest"
)

func TestStats(t *testing.T) {
	v := spawnReady(t, newOrder(t, ""))
	if s, err := v.Stats(v.ctx); err != nil || s.Guest == nil || s.Guest.MemoryTotal != 1<<20 || s.Guest.Processes != 3 {
		t.Errorf("%+v %v", s, err)
	}
	if err := v.Pause(v.ctx); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is paused", func() bool { return v.now().Paused })
	if s, err := v.Stats(v.ctx); err != nil || s.Guest != nil {
		t.Errorf("a paused guest answers: %+v %v", s, err)
	}
	if err := v.Resume(v.ctx); err != nil {
		t.Fatal(err)
	}
}

// A guest that does not answer is waited for a moment, is asked nothing more
// meanwhile, and answers who asks later.
func TestStatsOfAGuestThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, release := 0, make(chan struct{})
		g := guestMeter{ask: func(context.Context) (wire.Stats, error) {
			asked++
			<-release
			return wire.Stats{Processes: 9}, nil
		}}
		for range 3 {
			begun := time.Now()
			if s := g.stats(t.Context()); s != nil || time.Since(begun) != guestPatience {
				t.Errorf("%+v after %s", s, time.Since(begun))
			}
		}
		close(release)
		synctest.Wait()
		begun := time.Now()
		if s := g.stats(t.Context()); s == nil || s.Processes != 9 || !time.Now().Equal(begun) {
			t.Errorf("%+v after %s", s, time.Since(begun))
		}
		if asked != 2 {
			t.Errorf("it was asked %d times", asked)
		}
	})
}

// What it said long ago is not what it uses, and a failure is no answer.
func TestStatsOfAGuestThatHangsAfterAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hangs, fails atomic.Bool
		g := guestMeter{ask: func(ctx context.Context) (s wire.Stats, err error) {
			if hangs.Load() {
				<-ctx.Done()
				return s, ctx.Err()
			}
			if fails.Load() {
				return s, ErrOld
			}
			return wire.Stats{Processes: 9}, nil
		}}
		answers := func(want bool) {
			t.Helper()
			if s := g.stats(t.Context()); (s != nil) != want {
				t.Errorf("%+v", s)
			}
		}
		answers(true)
		hangs.Store(true)
		answers(true) // what it said a moment ago
		time.Sleep(guestRecent)
		answers(false)
		time.Sleep(guestTimeout)
		hangs.Store(false)
		answers(true)
		fails.Store(true)
		answers(false)
	})
}

// A guest that cannot be asked leaves its part out.
func TestStatsOfAnOldAgent(t *testing.T) {
	v := spawnReady(t, newOrder(t, fakeguest.Old))
	if s, err := v.Stats(v.ctx); err != nil || s.Guest != nil {
		t.Errorf("%+v %v", s, err)
	}
}

// A follower is told of the network's counts though nothing else has changed.
func TestNewsOfTheNetwork(t *testing.T) {
	s := &server{m: &monitor{done: make(chan struct{})}}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if s.news(ctx, nil, Status{}) {
		t.Error("there is news when there is none")
	}
	changed := make(chan struct{})
	close(changed)
	if !s.news(t.Context(), changed, Status{}) {
		t.Error("a change is no news")
	}
	close(s.m.done)
	if s.news(t.Context(), nil, Status{}) {
		t.Error("there is news after the end")
	}
}
