package operation

import (
	"context"
	"iter"
	"sync"
	"time"

	"banger.dev/banger"
)

// Status says whether an operation goes on.
type Status string

// The statuses.
const (
	Running   Status = "running"
	Done      Status = "done"
	Failed    Status = "failed"
	Cancelled Status = "cancelled"
)

// Snapshot is an operation at one moment.
type Snapshot[R any] struct {
	ID       string
	Kind     string // what is done
	Target   string // to what
	Status   Status
	Progress *banger.Progress // the last report, or nil
	Result   R                // of a done one
	Err      error            // of a failed or cancelled one
	Started  time.Time
	Ended    time.Time // zero while it runs
	Request  string    // id of the request that began it, or ""
}

// ended is s after an end.
func (s Snapshot[R]) ended(status Status, result R, err error) Snapshot[R] {
	s.Status, s.Err, s.Ended = status, err, time.Now()
	if status == Done {
		s.Result = result
	}
	return s
}

// Op is one operation. All methods may be called from any goroutine.
type Op[R any] struct {
	cancel context.CancelCauseFunc
	leash  bool

	// mu guards what follows.
	mu       sync.Mutex
	now      Snapshot[R]
	changed  chan struct{} // closed, and made anew, at every change
	watchers int
	lonely   *time.Timer // cancels one on a leash whose first watcher does not come
}

// Snapshot is the operation now.
func (o *Op[R]) Snapshot() Snapshot[R] {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.now
}

// Cancel ends the operation's context. It does not wait; an operation that has
// ended stays as it is.
func (o *Op[R]) Cancel() { o.cancel(errByRequest) }

// Abandon is Cancel where whoever it was done for is gone.
func (o *Op[R]) Abandon() { o.cancel(errAlone) }

// Watch yields the operation as it is now and then after each change, until it
// has ended or ctx has. The last one yielded is the ended one, unless ctx ended
// first. A slow watcher misses reports of progress, never the newest and never
// the end. Whoever ranges over it is a watcher until the loop ends.
func (o *Op[R]) Watch(ctx context.Context) iter.Seq[Snapshot[R]] {
	return func(yield func(Snapshot[R]) bool) {
		o.attach()
		defer o.detach()
		for {
			s, changed := o.look()
			if !yield(s) || s.Status != Running {
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-changed:
			}
		}
	}
}

func (o *Op[R]) look() (Snapshot[R], <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.now, o.changed
}

func (o *Op[R]) attach() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.watchers++
	if o.lonely != nil {
		o.lonely.Stop()
	}
}

func (o *Op[R]) detach() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.watchers--
	if o.leash && o.watchers == 0 && o.now.Status == Running {
		o.cancel(errAlone)
	}
}

// report is the operation's ProgressFunc.
func (o *Op[R]) report(p banger.Progress) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.now.Status != Running {
		return
	}
	o.now.Progress = &p
	o.wake()
}

func (o *Op[R]) end(status Status, result R, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.lonely != nil {
		o.lonely.Stop()
	}
	o.now = o.now.ended(status, result, err)
	o.wake()
}

// wake tells the watchers. o.mu is held.
func (o *Op[R]) wake() {
	close(o.changed)
	o.changed = make(chan struct{})
}

// id never changes, so it needs no lock.
func (o *Op[R]) id() string { return o.now.ID }
