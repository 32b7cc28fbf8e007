package relay

import (
	"errors"
	"io"
	"sync"

	"banger.dev/banger/internal/agent/credit"
)

// A stream's reader never waits for a connection that does not take what comes,
// or it would hold up the other way too. So each end says how much it will keep:
// Window at first, more while its connection takes all as soon as it comes. That
// is counted, for the other end of the channel may be hostile.
const (
	Window    = 64 << 10
	maxWindow = 1 << 20
	maxLent   = 32 << 20 // what the windows of one Relay are together larger than Window
)

var (
	errBrokenOff = errors.New("broken off")
	errOverrun   = errors.New("more came than there was leave to send")
)

// inbox is what has come of one way and was not written yet. One goroutine reads
// into it, another takes from it.
type inbox struct {
	relay   *Relay
	counted bool // the other end heeds the window; else it is held back by not reading

	mu      sync.Mutex
	changed sync.Cond
	came    *[]byte // nil: nothing
	kept    int     // bytes that came and were not written
	untold  int     // bytes that were written, and the other end has not been told
	window  int     // what it may have sent beyond those that it was told of
	since   int     // bytes written since the window has grown
	over    bool    // no more comes
	broken  bool
}

func newInbox(r *Relay, counted bool) *inbox {
	in := &inbox{relay: r, counted: counted, window: Window}
	in.changed.L = &in.mu
	return in
}

// read takes length bytes of stream.
func (in *inbox) read(stream io.Reader, length int) error {
	bulk := in.relay.get()
	defer in.relay.put(bulk)
	for length > 0 {
		if err := in.room(length); err != nil {
			return err
		}
		n, err := stream.Read((*bulk)[:min(length, len(*bulk))])
		length -= n
		in.add((*bulk)[:n])
		if err != nil && length > 0 {
			return err
		}
	}
	return nil
}

// room returns when length bytes may come.
func (in *inbox) room(length int) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	for !in.counted && !in.broken && in.kept >= in.window {
		in.changed.Wait()
	}
	switch {
	case in.broken:
		return errBrokenOff
	case in.counted && in.kept+in.untold+length > in.window:
		return errOverrun
	}
	return nil
}

func (in *inbox) add(b []byte) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.came == nil {
		in.came = in.relay.getQueue()
	}
	*in.came = append(*in.came, b...)
	in.kept += len(b)
	in.changed.Broadcast()
}

// take is what has come since the last time; nil when no more will. It is the
// caller's, who gives it back to the relay.
func (in *inbox) take() *[]byte {
	in.mu.Lock()
	defer in.mu.Unlock()
	for in.came == nil && !in.over && !in.broken {
		in.changed.Wait()
	}
	b := in.came
	in.came = nil
	return b
}

// written counts n bytes of what was taken, and returns how many more the other
// end is to be told of; 0: not yet.
func (in *inbox) written(n int) (more int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.kept -= n
	in.untold += n
	in.since += n
	in.changed.Broadcast()
	if !in.counted || in.over {
		return 0
	}
	if in.kept == 0 && in.since >= in.window && in.window < maxWindow && in.relay.lend(in.window) {
		in.untold += in.window
		in.window *= 2
		in.since = 0
	}
	if in.untold < in.window/2 {
		return 0
	}
	more, in.untold = in.untold, 0
	return more
}

// end says that no more comes.
func (in *inbox) end() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.over = true
	in.changed.Broadcast()
}

// breakOff has whoever waits give up.
func (in *inbox) breakOff() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.broken = true
	in.changed.Broadcast()
}

// close gives back what the relay has lent. Nobody uses the inbox any more.
func (in *inbox) close() {
	in.relay.lent.Add(int64(Window - in.window))
}

// lend lets a window be n bytes larger, if there is as much left.
func (r *Relay) lend(n int) bool {
	if r.lent.Add(int64(n)) <= maxLent {
		return true
	}
	r.lent.Add(-int64(n))
	return false
}

// maxAllowance bounds what the other end can give leave to.
const maxAllowance = 1 << 30

// allowance is what may be sent on a stream of this window.
func allowance(window int) *credit.Credit {
	if window == 0 {
		return credit.Unbounded()
	}
	return credit.New(min(window, maxAllowance), maxAllowance)
}
