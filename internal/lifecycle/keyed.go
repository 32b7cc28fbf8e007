package lifecycle

import (
	"context"
	"sync"
)

// keyed is a lock for each key that honours a context and frees itself. All are
// of one class.
type keyed struct {
	class    LockClass
	observer LockObserver

	mu    sync.Mutex
	locks map[string]*keyedLock
}

type keyedLock struct {
	token chan struct{} // holds one token while unlocked
	users int
}

// lock waits for the key's lock until ctx ends.
func (k *keyed) lock(ctx context.Context, key string) (unlock func(), err error) {
	k.observer.Take(k.class)
	l := k.enter(key)
	select {
	case <-l.token:
		return func() { l.token <- struct{}{}; k.leave(key, l) }, nil
	case <-ctx.Done():
		k.leave(key, l)
		return nil, ctx.Err()
	}
}

// tryLock takes the key's lock if nobody has it.
func (k *keyed) tryLock(key string) (unlock func(), ok bool) {
	k.observer.Take(k.class)
	l := k.enter(key)
	select {
	case <-l.token:
		return func() { l.token <- struct{}{}; k.leave(key, l) }, true
	default:
		k.leave(key, l)
		return nil, false
	}
}

func (k *keyed) enter(key string) *keyedLock {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.locks == nil {
		k.locks = map[string]*keyedLock{}
	}
	l := k.locks[key]
	if l == nil {
		l = &keyedLock{token: make(chan struct{}, 1)}
		l.token <- struct{}{}
		k.locks[key] = l
	}
	l.users++
	return l
}

func (k *keyed) leave(key string, l *keyedLock) {
	k.mu.Lock()
	if l.users--; l.users == 0 {
		delete(k.locks, key)
	}
	k.mu.Unlock()
	k.observer.Free(k.class)
}
