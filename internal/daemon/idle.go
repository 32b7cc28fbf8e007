package daemon

import (
	"context"
	"log/slog"
	"time"
)

// idler ends a daemon that has had nothing to do for a while: no VM was alive,
// no client was there and no operation ran.
type idler struct {
	server     interface{ LeaveIfIdle(time.Duration) bool }
	operations func() int
	alive      func(context.Context) (int, error) // VMs
	timeout    func() time.Duration               // 0: never; may change
	log        *slog.Logger
}

// idlePoll bounds how often an idler looks; a tenth of the timeout otherwise.
const idlePoll = 10 * time.Second

// run calls stop when the daemon has left, and returns then or with ctx.
func (i idler) run(ctx context.Context, stop func()) {
	busy := time.Now()
	for {
		timeout := i.timeout()
		pause := idlePoll
		if timeout > 0 {
			pause = min(idlePoll, max(timeout/10, 10*time.Millisecond))
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		alive, err := i.alive(ctx)
		if timeout == 0 || alive > 0 || err != nil || i.operations() > 0 {
			busy = time.Now()
			continue
		}
		// The server looks at its clients itself, so that none slips in between.
		if time.Since(busy) >= timeout && i.server.LeaveIfIdle(timeout) {
			i.log.Info("leaving: there was nothing to do", "for", timeout)
			stop()
			return
		}
	}
}
