// Package ipc is the unix socket between banger's client and daemon, as far as
// the operating system goes: a private directory, a socket that nobody else can
// open, the peer's uid, and the lock that makes one process the only one. What
// is said over the socket is not its business.
package ipc

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"banger.dev/banger"
	"banger.dev/banger/internal/paths"
)

// Listen listens at path, mode 0600 from the first moment. Who calls holds the
// lock that makes it the only one to listen there: without it two processes
// could each take the other's new socket for a stale one. A socket that
// is there and answers is a conflict; one that nobody answers is replaced.
//
// Accept gives only peers with this process's uid, and root; others are closed.
// What it gives is a *net.UnixConn. Closing the listener removes the socket.
func Listen(path string) (net.Listener, error) {
	if len(path) > paths.MaxSocket {
		return nil, banger.Errorf(banger.KindInvalid, "%s is %d bytes too long for a unix socket", path, len(path)-paths.MaxSocket).
			WithNext("set BANGER_HOME to a shorter path")
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	config := net.ListenConfig{Control: private}
	l, err := config.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, banger.Errorf(banger.KindInternal, "listen at %s: %w", path, err)
	}
	return listener{l.(*net.UnixListener)}, nil
}

// private gives the socket its mode before it has a name: bind(2) makes the
// file with the mode of the socket's own inode.
func private(_, _ string, c syscall.RawConn) error {
	var failed error
	err := c.Control(func(fd uintptr) { failed = unix.Fchmod(int(fd), 0o600) })
	return errors.Join(err, failed)
}

// removeStale removes a socket that nobody answers.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return banger.Errorf(banger.KindInternal, "look at %s: %w", path, err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return banger.Errorf(banger.KindConflict, "%s is there and is not a socket", path).WithNext("rm %s", path)
	}
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err == nil {
		conn.Close()
		return banger.Errorf(banger.KindConflict, "another process answers at %s", path).WithNext("banger daemon status")
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		return banger.Errorf(banger.KindInternal, "see whether somebody answers at %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return banger.Errorf(banger.KindInternal, "remove the stale socket %s: %w", path, err)
	}
	return nil
}

type listener struct{ *net.UnixListener }

// Accept waits for the next peer that may speak to us.
func (l listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		peer, err := PeerOf(conn)
		if err == nil && welcome(peer.UID, os.Geteuid()) {
			return conn, nil
		}
		conn.Close()
	}
}

// welcome says whether a peer with uid may speak to a process with uid own.
func welcome(uid, own int) bool { return uid == own || uid == 0 }

// Peer is the process at the other end, as it was when it connected or listened.
type Peer struct{ UID, PID int }

// PeerOf asks the kernel who is at the other end (unix(7), SO_PEERCRED).
func PeerOf(conn *net.UnixConn) (Peer, error) {
	nobody := Peer{UID: -1}
	raw, err := conn.SyscallConn()
	if err != nil {
		return nobody, err
	}
	var cred *unix.Ucred
	var failed error
	err = raw.Control(func(fd uintptr) { cred, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(err, failed); err != nil {
		return nobody, err
	}
	return Peer{UID: int(cred.Uid), PID: int(cred.Pid)}, nil
}
