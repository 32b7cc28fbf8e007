package ipc

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"banger.dev/banger"
)

func listen(t *testing.T, path string) net.Listener {
	t.Helper()
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestSocketIsPrivateUnderAnyUmask(t *testing.T) {
	before := syscall.Umask(0)
	defer syscall.Umask(before)
	path := filepath.Join(t.TempDir(), "s")
	listen(t, path)
	if info, err := os.Stat(path); err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("mode %v, %v; want a socket with 0600", info.Mode(), err)
	}
}

func TestCloseRemovesSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	listen(t, path).Close()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after Close: %v", err)
	}
	if _, err := Dial(t.Context(), path); !errors.Is(err, ErrNobody) {
		t.Errorf("Dial: %v", err)
	}
}

func TestSpeaking(t *testing.T) {
	l := listen(t, filepath.Join(t.TempDir(), "s"))
	go func() {
		if conn, err := l.Accept(); err == nil {
			conn.Write([]byte("hello"))
			conn.Close()
		}
	}()
	conn, err := Dial(t.Context(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	buf := make([]byte, 5)
	if _, err := conn.Read(buf); err != nil || string(buf) != "hello" {
		t.Errorf("%q, %v", buf, err)
	}
	if peer, err := PeerOf(conn.(*net.UnixConn)); err != nil || peer != (Peer{os.Geteuid(), os.Getpid()}) {
		t.Errorf("peer %+v, %v", peer, err)
	}
}

// stale leaves a socket at path that nobody listens to, as kill -9 does.
func stale(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
}

func TestStaleSocketIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	stale(t, path)
	if _, err := Dial(t.Context(), path); !errors.Is(err, ErrNobody) {
		t.Errorf("Dial: %v", err)
	}
	listen(t, path)
}

func TestSocketThatAnswersStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	listen(t, path)
	if _, err := Listen(path); banger.KindOf(err) != banger.KindConflict {
		t.Errorf("second Listen: %v", err)
	}
	conn, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatalf("the first one is gone: %v", err)
	}
	conn.Close()
}

func TestFileIsNotTakenForSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path); banger.KindOf(err) != banger.KindConflict {
		t.Errorf("Listen: %v", err)
	}
	if content, err := os.ReadFile(path); err != nil || string(content) != "mine" {
		t.Errorf("the file: %q, %v", content, err)
	}
}

func TestPathTooLong(t *testing.T) {
	_, err := Listen(filepath.Join(t.TempDir(), strings.Repeat("x", 108)))
	if banger.KindOf(err) != banger.KindInvalid || !strings.Contains(banger.NextOf(err), "BANGER_HOME") {
		t.Errorf("%v", err)
	}
}

func TestWelcome(t *testing.T) {
	for _, c := range []struct {
		uid, own int
		want     bool
	}{{1000, 1000, true}, {0, 1000, true}, {1001, 1000, false}, {1000, 0, false}, {-1, 1000, false}, {0, 0, true}} {
		if got := welcome(c.uid, c.own); got != c.want {
			t.Errorf("a peer with uid %d at a process with uid %d: %v", c.uid, c.own, got)
		}
	}
}

// Even when the file's mode lets another user in, it is closed unheard.
func TestPeerOfAnotherUserIsClosed(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs root")
		}
		t.Skip("needs root, to be another user")
	}
	dir, err := os.MkdirTemp("", "banger-ipc-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	l := listen(t, path)
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(path, 0o666)); err != nil {
		t.Fatal(err)
	}
	accepted := make(chan net.Conn, 1)
	go func() {
		conn, _ := l.Accept()
		accepted <- conn
	}()

	if n, err := readAs(65534, path); n != 0 || err != nil {
		t.Errorf("the stranger read %d bytes, %v; want the end", n, err)
	}
	conn, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	first := <-accepted
	defer first.Close()
	if peer, err := PeerOf(first.(*net.UnixConn)); err != nil || peer.UID != 0 {
		t.Errorf("the first accepted peer has uid %d, %v", peer.UID, err)
	}
}

// readAs connects to path as another user and reads once. Credentials belong
// to a thread in Linux, so one is spent on it.
func readAs(uid int, path string) (n int, err error) {
	done := make(chan struct{})
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		defer close(done)
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0)); errno != 0 {
			err = errno
			return
		}
		var fd int
		if fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return
		}
		defer unix.Close(fd)
		if err = unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
			return
		}
		n, err = unix.Read(fd, make([]byte, 1))
	}()
	<-done
	return n, err
}

func TestPrivateDir(t *testing.T) {
	root := t.TempDir()
	made := filepath.Join(root, "a", "b")
	wide := filepath.Join(root, "wide")
	open := filepath.Join(root, "open")
	link := filepath.Join(root, "link")
	file := filepath.Join(root, "file")
	for _, err := range []error{
		os.Mkdir(wide, 0o755), os.Mkdir(open, 0o755), os.Chmod(open, 0o777), os.Symlink(wide, link), os.WriteFile(file, nil, 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{made, made, wide} {
		if err := PrivateDir(dir); err != nil {
			t.Errorf("%s: %v", dir, err)
			continue
		}
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: mode %v, %v", dir, info.Mode(), err)
		}
	}
	for dir, why := range map[string]string{open: "other users", link: "symbolic link", file: "directory"} {
		if err := PrivateDir(dir); banger.KindOf(err) != banger.KindUnavailable || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", dir, err)
		}
	}
	if os.Geteuid() == 0 {
		theirs := filepath.Join(root, "theirs")
		if err := errors.Join(os.Mkdir(theirs, 0o700), os.Chown(theirs, 65534, 65534)); err != nil {
			t.Fatal(err)
		}
		if err := PrivateDir(theirs); err == nil || !strings.Contains(err.Error(), "another user") {
			t.Errorf("%s: %v", theirs, err)
		}
	}
}

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	first, err := Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := Lock(path); err != ErrHeld {
		t.Errorf("second Lock: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := LockWait(ctx, path); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), path) {
		t.Errorf("LockWait with an ended context: %v", err)
	}
	got := make(chan error, 1)
	go func() {
		held, err := LockWait(t.Context(), path)
		if err == nil {
			err = held.Release()
		}
		got <- err
	}()
	for range 2 {
		if err := first.Release(); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-got; err != nil {
		t.Errorf("LockWait: %v", err)
	}
}

// A lock on a file that is no longer at its path excludes nobody.
func TestLockOfSweptFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	old, err := Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Release()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	held, err := Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Release()
	if _, err := Lock(path); err != ErrHeld {
		t.Errorf("the new file does not exclude: %v", err)
	}
}
