package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// LockRecorder is a LockObserver for tests: it fails at every lock that is taken
// out of order, also where no other goroutine is there to deadlock with, and at
// every call to the host or the database that is made with LockState held.
type LockRecorder struct {
	fail   func(violation string)
	states atomic.Int64 // goroutines that hold LockState, or wait for it

	mu    sync.Mutex
	held  map[string][]LockClass // by goroutine
	taken map[LockClass]int
}

// NewLockRecorder makes a recorder that calls fail at each violation; with nil,
// for measurements, it looks at nothing.
func NewLockRecorder(fail func(violation string)) *LockRecorder {
	return &LockRecorder{fail: fail, held: map[string][]LockClass{}, taken: map[LockClass]int{}}
}

// Take implements LockObserver.
func (r *LockRecorder) Take(c LockClass) {
	if r.fail == nil {
		return
	}
	if c == LockState {
		r.states.Add(1)
	}
	g := goroutine()
	r.mu.Lock()
	holds := r.held[g]
	r.held[g] = append(slices.Clone(holds), c)
	r.taken[c]++
	r.mu.Unlock()
	for _, h := range holds {
		if slices.Index(LockOrder(), h) >= slices.Index(LockOrder(), c) {
			r.fail(fmt.Sprintf("a lock of class %s is taken by who holds one of class %s\n%s", c, h, debug.Stack()))
		}
	}
}

// Free implements LockObserver.
func (r *LockRecorder) Free(c LockClass) {
	if r.fail == nil {
		return
	}
	if c == LockState {
		r.states.Add(-1)
	}
	g := goroutine()
	r.mu.Lock()
	defer r.mu.Unlock()
	holds := slices.Clone(r.held[g])
	for i := len(holds) - 1; i >= 0; i-- {
		if holds[i] == c {
			r.held[g] = slices.Delete(holds, i, i+1)
			break
		}
	}
	if len(r.held[g]) == 0 {
		delete(r.held, g)
	}
}

// IO says that the goroutine calls what may wait for a disk or for somebody else.
func (r *LockRecorder) IO(what string) {
	if r.fail == nil {
		return
	}
	if r.states.Load() == 0 {
		return // nobody does: to tell who asks is dear
	}
	g := goroutine()
	r.mu.Lock()
	holds := r.held[g]
	r.mu.Unlock()
	if slices.Contains(holds, LockState) {
		r.fail(fmt.Sprintf("%s is called with a lock of class %s held\n%s", what, LockState, debug.Stack()))
	}
}

// Taken is how many locks of a class were taken.
func (r *LockRecorder) Taken(c LockClass) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.taken[c]
}

// Held is how many goroutines hold a lock.
func (r *LockRecorder) Held() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.held)
}

// goroutine is what this goroutine is called in a stack trace, "goroutine 7".
func goroutine() string {
	var buf [64]byte
	name, _, _ := strings.Cut(string(buf[:runtime.Stack(buf[:], false)]), " [")
	return name
}

// watched is a Manager with nothing but its locks, and what its recorder said.
func watched() (*Manager, *LockRecorder, *[]string) {
	var said []string
	r := NewLockRecorder(func(violation string) {
		what, _, _ := strings.Cut(violation, "\n")
		said = append(said, what)
	})
	return New(Deps{Locks: r}), r, &said
}

func TestLocksOutOfOrderAreFound(t *testing.T) {
	vm := func(m *Manager, id string) func() {
		unlock, err := m.locks.lock(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return unlock
	}
	for name, test := range map[string]struct {
		do   func(m *Manager, r *LockRecorder)
		want string
	}{
		"in order": {func(m *Manager, r *LockRecorder) {
			defer vm(m, "a")()
			m.admission.Lock()
			m.isDeleting("a")
			m.admission.Unlock()
			r.Take(LockCache)
			r.IO("a read")
			r.Free(LockCache)
			m.isDeleting("a")
		}, ""},
		"one after the other": {func(m *Manager, _ *LockRecorder) {
			m.isDeleting("a")
			vm(m, "a")()
			vm(m, "b")()
		}, ""},
		"state before VM": {func(m *Manager, _ *LockRecorder) {
			m.mu.Lock()
			defer m.mu.Unlock()
			vm(m, "a")()
		}, "a lock of class VM is taken by who holds one of class state"},
		"admission before VM": {func(m *Manager, _ *LockRecorder) {
			m.admission.Lock()
			defer m.admission.Unlock()
			vm(m, "a")()
		}, "a lock of class VM is taken by who holds one of class admission"},
		"cache before VM": {func(m *Manager, r *LockRecorder) {
			r.Take(LockCache)
			defer r.Free(LockCache)
			if unlock, ok := m.locks.tryLock("a"); ok {
				unlock()
			}
		}, "a lock of class VM is taken by who holds one of class cache"},
		"two VMs": {func(m *Manager, _ *LockRecorder) {
			defer vm(m, "a")()
			defer vm(m, "b")()
		}, "a lock of class VM is taken by who holds one of class VM"},
		"a wait with state held": {func(m *Manager, r *LockRecorder) {
			m.mu.Lock()
			defer m.mu.Unlock()
			r.IO("a read")
		}, "a read is called with a lock of class state held"},
	} {
		t.Run(name, func(t *testing.T) {
			m, r, said := watched()
			test.do(m, r)
			if got := strings.Join(*said, "; "); got != test.want {
				t.Errorf("it said %q, want %q", got, test.want)
			}
			if r.Held() != 0 {
				t.Error("locks are left")
			}
		})
	}
}

// What another goroutine holds is no business of this one, and a lock that was
// not got is not held.
func TestLocksOfOthersAndThoseNotGotAreNotHeld(t *testing.T) {
	m, r, said := watched()
	unlock, err := m.locks.lock(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	other := make(chan struct{})
	go func() {
		defer close(other)
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := m.locks.lock(ended, "a"); !errors.Is(err, context.Canceled) {
			t.Errorf("it was got: %v", err)
		}
		if _, ok := m.locks.tryLock("a"); ok {
			t.Error("it was got")
		}
		if unlock, ok := m.locks.tryLock("b"); ok {
			unlock()
		}
	}()
	<-other
	unlock()
	if len(*said) > 0 || r.Held() != 0 {
		t.Errorf("%q, %d hold locks", *said, r.Held())
	}
}
