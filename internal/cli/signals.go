package cli

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// forwarded are the signals that go to a command in a guest. SIGPIPE is taken
// too, and dropped: it turns a reader of ours that is gone into an error of the
// write, so that what must be put right still is.
var forwarded = []os.Signal{
	syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT,
	syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH, syscall.SIGPIPE,
}

// signals is what becomes of the signals this process gets. Until watch is called
// they end it, as they end any program; then INT, TERM and HUP cancel the run,
// and while a command runs in a guest they and some others go there instead.
type signals struct {
	incoming chan os.Signal
	done     chan struct{}
	cancel   context.CancelFunc
	watching sync.Once

	mu        sync.Mutex // guards the rest
	cancelled bool
	receiver  func(syscall.Signal)
}

// newSignals is for one run, until stop. The context ends with the first signal
// that cancels.
func newSignals(ctx context.Context) (context.Context, *signals) {
	ctx, cancel := context.WithCancel(ctx)
	return ctx, &signals{incoming: make(chan os.Signal, 16), done: make(chan struct{}), cancel: cancel}
}

// watch takes the signals, so that what is under way is put right when one comes.
// What only asks does not need it, and it costs threads: a sixth of the start.
func (s *signals) watch() {
	s.watching.Do(func() {
		notify(s.incoming, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
		go s.take()
	})
}

func (s *signals) take() {
	for {
		select {
		case sig := <-s.incoming:
			s.deliver(sig.(syscall.Signal))
		case <-s.done:
			return
		}
	}
}

// notify leaves alone what the parent had ignored, as nohup does with HUP.
func notify(c chan<- os.Signal, sigs ...os.Signal) {
	for _, sig := range sigs {
		if !signal.Ignored(sig) || sig == syscall.SIGPIPE || sig == syscall.SIGWINCH {
			signal.Notify(c, sig)
		}
	}
}

func (s *signals) deliver(sig syscall.Signal) {
	s.mu.Lock()
	receiver := s.receiver
	if receiver == nil && (sig == syscall.SIGINT || sig == syscall.SIGTERM || sig == syscall.SIGHUP) {
		s.cancelled = true
		s.cancel()
	}
	s.mu.Unlock()
	if receiver != nil && sig != syscall.SIGPIPE {
		receiver(sig)
	}
}

// forward gives every signal to receiver until the function it returns is
// called. receiver must not block.
func (s *signals) forward(receiver func(syscall.Signal)) (end func()) {
	s.watch()
	s.mu.Lock()
	s.receiver = receiver
	s.mu.Unlock()
	notify(s.incoming, forwarded...)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.receiver = nil
	}
}

// interrupted says whether a signal has cancelled the run.
func (s *signals) interrupted() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cancelled
}

func (s *signals) stop() {
	s.watching.Do(func() {}) // nothing is to begin any more
	signal.Stop(s.incoming)
	close(s.done)
	s.cancel()
}
