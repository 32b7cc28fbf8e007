// Package suspend tells when this host's clock has jumped: it was suspended and
// resumed, or somebody set its time. What is done about it is up to the caller.
package suspend

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Jump is one discontinuity of the host's clock.
type Jump struct {
	Suspended time.Duration // how long the host was suspended; 0: its clock was set
}

// Source is where jumps come from; Host is the real one.
type Source interface {
	// Wait returns when the clock has jumped. After Close it is os.ErrClosed.
	Wait() error
	// Suspended is how long the host has been suspended since it was booted.
	Suspended() (time.Duration, error)
	Close() error
}

// Watch calls each after every jump until ctx ends, and is then nil. It waits in
// the kernel: a host that is not suspended costs nothing. src is closed at the end.
func Watch(ctx context.Context, src Source, each func(Jump)) error {
	stop := context.AfterFunc(ctx, func() { _ = src.Close() })
	defer func() {
		if stop() {
			_ = src.Close()
		}
	}()
	before, err := src.Suspended()
	if err != nil {
		return err
	}
	for {
		err := src.Wait()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		now, err := src.Suspended()
		if err != nil {
			return err
		}
		each(Jump{Suspended: whole(now - before)})
		before = now
	}
}

// noise is how far two clocks that are read one after the other seem to differ.
const noise = 100 * time.Millisecond

func whole(d time.Duration) time.Duration {
	if d < noise {
		return 0
	}
	return d
}

// Host is the jumps of this host's clock.
type Host struct {
	timer *os.File
}

// Open begins to look out for jumps.
func Open() (*Host, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("timerfd_create: %w", err)
	}
	h := &Host{timer: os.NewFile(uintptr(fd), "timerfd")}
	if err := h.arm(); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

// arm sets the timer to a time that does not come. What it is for is that the
// kernel cancels it when the clock is set, which a resume does too.
func (h *Host) arm() error {
	raw, err := h.timer.SyscallConn()
	if err != nil {
		return err
	}
	never := unix.ItimerSpec{Value: unix.Timespec{Sec: math.MaxInt64 / int64(time.Second)}}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.TimerfdSettime(int(fd), unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET, &never, nil)
	})
	if err = errors.Join(err, failed); err != nil && !errors.Is(err, unix.ECANCELED) {
		return fmt.Errorf("timerfd_settime: %w", err)
	}
	return nil
}

// Wait is Source's.
func (h *Host) Wait() error {
	var expirations [8]byte
	_, err := h.timer.Read(expirations[:])
	if err != nil && !errors.Is(err, unix.ECANCELED) {
		return err
	}
	return h.arm()
}

// Suspended is Source's: of the two clocks only one goes on meanwhile.
func (h *Host) Suspended() (time.Duration, error) {
	var whole, awake unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &awake); err != nil {
		return 0, err
	}
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &whole); err != nil {
		return 0, err
	}
	return time.Duration(whole.Nano() - awake.Nano()), nil
}

// Close ends a Wait.
func (h *Host) Close() error { return h.timer.Close() }
