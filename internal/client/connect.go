package client

import (
	"context"
	"errors"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
	"banger.dev/banger/internal/ipc"
	"banger.dev/banger/internal/paths"
	"banger.dev/banger/internal/version"
)

// answerTimeout is how long a daemon may take to say who it is.
const answerTimeout = 10 * time.Second

// errOlder says that the daemon is older than this program.
var errOlder = errors.New("the daemon is of an older build")

// Connect reaches the daemon of this layout. If nobody answers, or an older
// build, one is started, where auto allows it: with Disabled set nothing is
// started or compared, and the error for nobody has ErrNotRunning for a cause. A
// daemon of a newer build, or one that does not answer, is an error.
func Connect(ctx context.Context, layout paths.Layout, auto Autostart) (*Client, error) {
	if auto.Disabled {
		conn, err := ipc.Dial(ctx, layout.DaemonSocket())
		if errors.Is(err, ipc.ErrNobody) {
			return nil, notRunning()
		}
		if err != nil {
			return nil, err
		}
		return newClient(layout, conn, auto), nil
	}
	c, err := auto.reach(ctx, layout)
	if errors.Is(err, ipc.ErrNobody) || errors.Is(err, errOlder) {
		return auto.start(ctx, layout)
	}
	return c, err
}

// reach is a client of the daemon that answers. The error is or wraps ErrNobody
// if nobody does, or one that is about to end; and errOlder for an older build.
func (a Autostart) reach(ctx context.Context, layout paths.Layout) (*Client, error) {
	conn, err := ipc.Dial(ctx, layout.DaemonSocket())
	if err != nil {
		return nil, err
	}
	c := newClient(layout, conn, a)
	asked, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	ping, err := c.pingOnce(asked)
	switch {
	case err == nil:
		err = a.compare(ping)
	case ctx.Err() == nil && asked.Err() != nil:
		err = mute(c.pid)
	case unheard(err), banger.KindOf(err) == banger.KindUnavailable && errors.Is(err, errLost):
		err = ipc.ErrNobody // it has died of something else meanwhile
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// mute is the error for a daemon that takes connections and says nothing. Its
// VMs do not need it, so it may be killed.
func mute(pid int) error {
	return banger.Errorf(banger.KindUnavailable, "the daemon (pid %d) does not answer; it may be killed, VMs go on without it", pid).
		WithNext("kill -KILL %d", pid)
}

func pidOf(conn net.Conn) int {
	if socket, ok := conn.(*net.UnixConn); ok {
		if peer, err := ipc.PeerOf(socket); err == nil {
			return peer.PID
		}
	}
	return 0
}

// compare says whether the daemon that answered is of this program's build, as
// far as that can be told: nil, errOlder, or the error for a newer one.
func (a Autostart) compare(ping api.Ping) error {
	own := a.Build
	if own == (version.Build{}) {
		own = version.This()
	}
	order := ping.Build.Compare(own)
	if ping.API != api.Version {
		order = ping.API - api.Version
	}
	switch {
	case order < 0:
		return errOlder
	case order > 0:
		return banger.Errorf(banger.KindUnavailable, "the daemon (%s) is newer than this banger (%s): upgrade banger, or end that daemon and its own comes", ping.Version, version.String()).
			WithNext("banger daemon stop")
	}
	return nil
}

// unheardError is the error for a request that no daemon has taken.
type unheardError struct{ error }

func (e *unheardError) Unwrap() error { return e.error }

// unheard says whether a request has certainly not been done, so that it may be
// sent again: nobody listens, or the other end was closed before it had read all
// of it. A daemon that has read a request and dies leaves the end of the stream,
// and that is no such proof.
func unheard(err error) bool {
	var refused *unheardError
	return errors.As(err, &refused) || errors.Is(err, ipc.ErrNobody) || errors.Is(err, ErrNotRunning) ||
		errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE)
}
