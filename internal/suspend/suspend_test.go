package suspend_test

import (
	"context"
	"os"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"banger.dev/banger/internal/suspend"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sleeper is a host that is suspended for a while at every jump.
type sleeper struct {
	naps      []time.Duration
	suspended time.Duration
	closed    chan struct{}
}

func (s *sleeper) Suspended() (time.Duration, error) { return s.suspended, nil }
func (s *sleeper) Close() error                      { close(s.closed); return nil }

func (s *sleeper) Wait() error {
	if len(s.naps) == 0 {
		<-s.closed
		return os.ErrClosed
	}
	s.suspended += s.naps[0]
	s.naps = s.naps[1:]
	return nil
}

func TestASuspendIsTold(t *testing.T) {
	s := &sleeper{closed: make(chan struct{}), suspended: time.Hour, naps: []time.Duration{8 * time.Hour, time.Microsecond, time.Minute}}
	ctx, cancel := context.WithCancel(t.Context())
	var jumps []suspend.Jump
	err := suspend.Watch(ctx, s, func(j suspend.Jump) {
		if jumps = append(jumps, j); len(jumps) == 3 {
			cancel()
		}
	})
	want := []suspend.Jump{{Suspended: 8 * time.Hour}, {}, {Suspended: time.Minute}}
	if err != nil || !slices.Equal(jumps, want) {
		t.Errorf("%v %v, want %v", jumps, err, want)
	}
}

// The real one waits until it is told to end: nobody sets this host's clock.
func TestHost(t *testing.T) {
	h, err := suspend.Open()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Suspended(); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- suspend.Watch(ctx, h, func(j suspend.Jump) { t.Logf("the clock jumped: %v", j) }) }()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
