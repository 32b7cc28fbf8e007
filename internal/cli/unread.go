package cli

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// errUnread is the cause of the end of what prints for as long as it is read.
var errUnread = errors.New("nobody reads the output any more")

// unreadPoll bounds how long a reader may be gone before it is noticed.
const unreadPoll = 250 * time.Millisecond

// whileRead is ctx, which ends too when whoever reads our output is gone: who
// follows something that says nothing would not be told by a failing write. It
// is to be ended by the caller.
func (a *app) whileRead(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	if out, ok := a.Stdout.(*os.File); ok {
		fd := int32(out.Fd())
		go func() {
			for ctx.Err() == nil {
				if unread(fd) {
					cancel(errUnread)
				}
			}
		}()
	}
	return ctx, func() { cancel(nil) }
}

// unread waits a while for the last reader of a pipe to go.
func unread(fd int32) bool {
	fds := []unix.PollFd{{Fd: fd}} // errors and hang-ups are always told
	n, err := unix.Poll(fds, int(unreadPoll.Milliseconds()))
	return err == nil && n > 0 && fds[0].Revents != 0
}

// outcome is err, or the end of a process whose output nobody reads.
func (a *app) outcome(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errUnread) {
		return &exitError{code: exitSIGPIPE}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}
