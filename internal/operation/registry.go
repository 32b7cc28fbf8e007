// Package operation runs what takes longer than one request: each operation
// has an id, reports progress to whoever watches, can be cancelled, and is
// remembered for a while after its end. It knows nothing of VMs, and nothing of
// it survives the process.
package operation

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/request"
)

// How long ended operations are remembered: at most keepCount, none longer
// than keepFor. The newest is pruned last.
const (
	keepCount = 100
	keepFor   = 10 * time.Minute
)

// attachWithin is how long an operation on a leash waits for its first watcher.
const attachWithin = time.Minute

// Why an operation was cancelled; they end its message.
var (
	errByRequest = errors.New("it was asked to")
	errAlone     = errors.New("nobody waits for it any more")
	errShutdown  = errors.New("the daemon stops")
)

// Registry holds the operations of one process. R is what they result in. All
// methods may be called from any goroutine.
type Registry[R any] struct {
	// Tell is called when an operation begins to run, and when it has ended but
	// nobody has seen that yet, with the operation as it will then be seen. Set it
	// before the first Begin; nil: nobody is told.
	Tell    func(ctx context.Context, s Snapshot[R])
	log     *slog.Logger
	workers sync.WaitGroup

	// mu guards what follows; it is taken before an Op's own.
	mu     sync.Mutex
	ops    map[string]*Op[R]
	ended  []*Op[R] // in the order of their ends
	closed bool     // nothing begins any more
}

// New makes an empty registry.
func New[R any](log *slog.Logger) *Registry[R] {
	return &Registry[R]{log: log, ops: map[string]*Op[R]{}}
}

// Begin runs run in a goroutine of its own and returns at once. The context of
// run belongs to the operation: it ends by Cancel, by Shutdown, and, on a leash,
// when the last watcher leaves before run has returned or none has come within a
// minute. Of the caller's context it has the values alone. run's reports never
// block it. If run returns an error after its context was ended the operation is
// cancelled, else failed; a panic fails it.
//
// After Shutdown nothing runs: the operation has failed when Begin returns.
func (r *Registry[R]) Begin(caller context.Context, kind, target string, leash bool, run func(context.Context, banger.ProgressFunc) (R, error)) *Op[R] {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(caller))
	op := &Op[R]{
		cancel:  cancel,
		leash:   leash,
		changed: make(chan struct{}),
		now:     Snapshot[R]{ID: newID(), Kind: kind, Target: target, Status: Running, Started: time.Now(), Request: request.ID(caller)},
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.prune()
	r.ops[op.now.ID] = op
	if r.closed {
		op.end(Failed, *new(R), banger.Errorf(banger.KindUnavailable, "%s %s: the daemon stops", kind, target).WithNext("try again"))
		r.ended = append(r.ended, op)
		cancel(errShutdown)
		return op
	}
	if leash {
		op.mu.Lock()
		op.lonely = time.AfterFunc(attachWithin, func() { cancel(errAlone) })
		op.mu.Unlock()
	}
	r.workers.Go(func() { r.work(ctx, op, run) })
	return op
}

// Get finds an operation that runs or ended a short while ago.
func (r *Registry[R]) Get(id string) (*Op[R], error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.prune()
	op, ok := r.ops[id]
	if !ok {
		return nil, banger.Errorf(banger.KindNotFound, "no operation has the id %q; ended ones are forgotten after %s", id, keepFor)
	}
	return op, nil
}

// List is the operations that run or ended a short while ago, the oldest first.
func (r *Registry[R]) List() []Snapshot[R] {
	r.mu.Lock()
	r.prune()
	ops := slices.Collect(maps.Values(r.ops))
	r.mu.Unlock()
	list := make([]Snapshot[R], len(ops))
	for i, op := range ops {
		list[i] = op.Snapshot()
	}
	slices.SortFunc(list, func(a, b Snapshot[R]) int {
		return cmp.Or(a.Started.Compare(b.Started), cmp.Compare(a.ID, b.ID))
	})
	return list
}

// Running is how many operations have not ended.
func (r *Registry[R]) Running() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.ops) - len(r.ended)
}

// Shutdown cancels every operation and waits for the end of all, or of ctx,
// whose error it then returns.
func (r *Registry[R]) Shutdown(ctx context.Context) error {
	r.mu.Lock()
	r.closed = true
	for _, op := range r.ops {
		op.cancel(errShutdown)
	}
	r.mu.Unlock()
	done := make(chan struct{})
	go func() {
		r.workers.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// prune forgets what ended long ago. r.mu is held.
func (r *Registry[R]) prune() {
	oldest := time.Now().Add(-keepFor)
	for len(r.ended) > 0 && (len(r.ended) > keepCount || r.ended[0].Snapshot().Ended.Before(oldest)) {
		delete(r.ops, r.ended[0].id())
		r.ended[0] = nil
		r.ended = r.ended[1:]
	}
}

// newID is 16 hexadecimal digits.
func newID() string {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
