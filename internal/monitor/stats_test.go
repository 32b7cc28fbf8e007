package monitor

import (
	"context"
	"testing"
	"time"

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
