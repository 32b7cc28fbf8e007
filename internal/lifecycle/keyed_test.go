package lifecycle

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
)

func TestAKeyedLockIsHeldByOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keyed{observer: nobody{}}
		var wg sync.WaitGroup
		held := map[string]*int{"a": new(int), "b": new(int)}
		for i := range 40 {
			key := []string{"a", "b"}[i%2]
			wg.Go(func() {
				unlock, err := k.lock(t.Context(), key)
				if err != nil {
					t.Error(err)
					return
				}
				defer unlock()
				*held[key]++ // the race detector looks at this
			})
		}
		wg.Wait()
		if *held["a"] != 20 || *held["b"] != 20 || len(k.locks) != 0 {
			t.Errorf("locked %d and %d times, %d locks are left", *held["a"], *held["b"], len(k.locks))
		}
	})
}

func TestAKeyedLockIsWaitedForUntilTheContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keyed{observer: nobody{}}
		unlock, err := k.lock(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		waited := make(chan error)
		go func() {
			_, err := k.lock(ctx, "a")
			waited <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-waited; !errors.Is(err, context.Canceled) {
			t.Errorf("lock after the end of its context: %v", err)
		}
		unlock()
		if len(k.locks) != 0 {
			t.Errorf("%d locks are left", len(k.locks))
		}
	})
}

func TestAKeyedLockCanBeTried(t *testing.T) {
	k := keyed{observer: nobody{}}
	unlock, ok := k.tryLock("a")
	if !ok {
		t.Fatal("a free lock was not given")
	}
	if _, ok := k.tryLock("a"); ok {
		t.Error("a held lock was given")
	}
	other, ok := k.tryLock("b")
	if !ok {
		t.Fatal("the lock of another key was not given")
	}
	other()
	unlock()
	again, ok := k.tryLock("a")
	if !ok {
		t.Fatal("a lock that is free again was not given")
	}
	again()
	if len(k.locks) != 0 {
		t.Errorf("%d locks are left", len(k.locks))
	}
}
