package monitor

import (
	"sync"
	"time"
)

// leases counts the clients for whose sake the VM runs. With a timeout the VM
// ends when the last of them is gone, or when none has come in time after the
// guest was ready; without one nobody is waited for.
type leases struct {
	timeout time.Duration // 0: leases mean nothing
	expired func()

	mu    sync.Mutex
	held  int
	timer *time.Timer
}

func newLeases(timeout time.Duration, expired func()) *leases {
	return &leases{timeout: timeout, expired: expired}
}

// ready begins the wait for the first client.
func (l *leases) ready() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timeout > 0 && l.held == 0 && l.timer == nil {
		l.timer = time.AfterFunc(l.timeout, l.expired)
	}
}

// take holds a lease until the returned function is called.
func (l *leases) take() (release func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held++
	if l.timer != nil {
		l.timer.Stop()
	}
	return l.release
}

func (l *leases) release() {
	l.mu.Lock()
	l.held--
	last := l.held == 0 && l.timeout > 0
	l.mu.Unlock()
	if last {
		l.expired()
	}
}
