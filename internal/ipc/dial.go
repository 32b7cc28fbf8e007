package ipc

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"banger.dev/banger"
)

// ErrNobody says that nobody listens at a socket: there is none, or it is stale.
var ErrNobody = errors.New("nobody listens")

// dialPause is how long Dial waits when the listener's queue is full.
const dialPause = 5 * time.Millisecond

// Dial connects to the socket at path. The error is ErrNobody, or wraps it,
// when nobody listens there. A listener of another user is refused, unless one
// of the two is root: whoever made the socket could read all we say.
func Dial(ctx context.Context, path string) (net.Conn, error) {
	var d net.Dialer
	for {
		conn, err := d.DialContext(ctx, "unix", path)
		switch {
		case err == nil:
			return known(path, conn.(*net.UnixConn))
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ECONNREFUSED):
			return nil, ErrNobody
		case ctx.Err() != nil:
			return nil, banger.Errorf(kindOfEnd(ctx), "connect to %s: %w", path, ctx.Err())
		case !errors.Is(err, unix.EAGAIN):
			return nil, banger.Errorf(banger.KindUnavailable, "connect to %s: %w", path, err)
		}
		select {
		case <-ctx.Done():
			return nil, banger.Errorf(kindOfEnd(ctx), "connect to %s: %w", path, ctx.Err())
		case <-time.After(dialPause):
		}
	}
}

func known(path string, conn *net.UnixConn) (net.Conn, error) {
	peer, err := PeerOf(conn)
	if err == nil && !welcome(peer.UID, os.Geteuid()) && os.Geteuid() != 0 {
		err = banger.Errorf(banger.KindUnavailable, "the process %d that answers at %s belongs to another user (uid %d)", peer.PID, path, peer.UID)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}
