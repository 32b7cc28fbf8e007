package user

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// both runs a test over IPv4 and IPv6.
func both(t *testing.T, test func(t *testing.T, outside netip.Addr)) {
	t.Run("IPv4", func(t *testing.T) { test(t, outside4()) })
	t.Run("IPv6", func(t *testing.T) { test(t, outside6()) })
}

func TestTCPCarriesEverything(t *testing.T) {
	both(t, func(t *testing.T, outside netip.Addr) {
		to := serve(t, outside, echoServer)
		w := newWorld(t, nil)
		var wg sync.WaitGroup
		for range 4 {
			conn := w.mustDial(to)
			sent := make([]byte, 3<<20)
			_, _ = rand.Read(sent)
			wg.Go(func() {
				_, err := conn.Write(sent)
				if err = errors.Join(err, conn.CloseWrite()); err != nil {
					t.Error(err)
				}
			})
			wg.Go(func() {
				got, err := io.ReadAll(conn)
				if err != nil || !bytes.Equal(got, sent) {
					t.Errorf("%d bytes came back otherwise as %d (%v)", len(sent), len(got), err)
				}
			})
		}
		wg.Wait()
		if s := w.n.Stats(); s.Connections != 4 || s.FromGuestBytes < 12<<20 || s.ToGuestBytes < 12<<20 {
			t.Errorf("counted: %+v", s)
		}
	})
}

// TestTCPHalfClose: each side can end its half and go on with the other.
func TestTCPHalfClose(t *testing.T) {
	both(t, func(t *testing.T, outside netip.Addr) {
		heard := make(chan string, 1)
		to := serve(t, outside, func(c *net.TCPConn) {
			_, _ = io.WriteString(c, "bye")
			_ = c.CloseWrite()
			b, _ := io.ReadAll(c)
			heard <- string(b)
		})
		conn := newWorld(t, nil).mustDial(to)
		if got, err := io.ReadAll(conn); err != nil || string(got) != "bye" {
			t.Fatalf("the guest heard %q, %v", got, err)
		}
		if _, err := io.WriteString(conn, "still here"); err != nil {
			t.Fatal(err)
		}
		if err := conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got := <-heard; got != "still here" {
			t.Errorf("the server heard %q", got)
		}
	})
}

// TestTCPReset: a connection that one side breaks off is not one that ends.
func TestTCPReset(t *testing.T) {
	t.Run("ByTheServer", func(t *testing.T) {
		to := serve(t, outside4(), func(c *net.TCPConn) {
			_, _ = c.Read(make([]byte, 1))
			_ = c.SetLinger(0)
		})
		conn := newWorld(t, nil).mustDial(to)
		_, _ = conn.Write([]byte("x"))
		if _, err := io.ReadAll(conn); err == nil || !strings.Contains(err.Error(), "reset") {
			t.Errorf("the guest read: %v", err)
		}
	})
	t.Run("ByTheGuest", func(t *testing.T) {
		ended := make(chan error, 1)
		to := serve(t, outside4(), func(c *net.TCPConn) {
			_, err := io.ReadAll(c)
			ended <- err
		})
		w := newWorld(t, nil)
		conn := w.mustDial(to)
		_, _ = conn.Write([]byte("x"))
		for _, e := range w.guest.RegisteredEndpoints() {
			e.Abort()
		}
		if err := <-ended; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the server read: %v", err)
		}
	})
	t.Run("ByTheGuestOfAServerThatReadsNothing", func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		to := serve(t, outside4(), func(*net.TCPConn) { <-release })
		w := newWorld(t, nil)
		conn := w.mustDial(to)
		go func() { _, _ = conn.Write(make([]byte, 64<<20)) }() // more than fits anywhere between
		for before := uint64(0); w.n.Stats().FromGuestBytes != before; time.Sleep(100 * time.Millisecond) {
			before = w.n.Stats().FromGuestBytes
		}
		for _, e := range w.guest.RegisteredEndpoints() {
			e.Abort()
		}
		w.eventually("its connection is over", func() bool { return w.n.Stats().Open == 0 })
	})
}

func (w *world) eventually(what string, is func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("it never came about that %s", what)
		}
	}
}

// TestTCPFailedDial: the guest learns why, and at once.
func TestTCPFailedDial(t *testing.T) {
	for _, test := range []struct {
		errno syscall.Errno
		says  string
	}{
		{syscall.ECONNREFUSED, "refused"},
		{syscall.EHOSTUNREACH, "no route"},
		{syscall.ENETUNREACH, "unreachable"},
		{syscall.EMFILE, "refused"},
	} {
		t.Run(test.errno.Error(), func(t *testing.T) {
			both(t, func(t *testing.T, outside netip.Addr) {
				w := newWorld(t, func(c *Config) {
					c.Dial = func(context.Context, string, netip.AddrPort) (Socket, error) {
						return nil, &net.OpError{Op: "dial", Err: test.errno}
					}
				})
				if outside.Is6() && test.errno == syscall.EHOSTUNREACH {
					return // the test's guest takes no heed of that message
				}
				_, err := w.dial(netip.AddrPortFrom(outside, 80))
				if err == nil || errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), test.says) {
					t.Errorf("the guest heard %v", err)
				}
				if s := w.n.Stats(); s.Refused == 0 || s.Connections != 0 {
					t.Errorf("counted: %+v", s)
				}
			})
		})
	}
}

// TestClosedIsRefusedAtOnce: what the policy closes is never dialled.
func TestClosedIsRefusedAtOnce(t *testing.T) {
	w := newWorld(t, func(c *Config) {
		c.Allows = nil
		c.Dial = func(_ context.Context, _ string, to netip.AddrPort) (Socket, error) {
			t.Errorf("%s was dialled", to)
			return nil, syscall.ECONNREFUSED
		}
	})
	for _, a := range []string{"169.254.169.254", "10.0.2.2", "10.0.2.3", "0.0.0.1", "fd62:6e67:7200::2", "fd00:ec2::254", "64:ff9b::7f00:1", "2002:7f00:1::1"} {
		if _, err := w.dial(netip.AddrPortFrom(netip.MustParseAddr(a), 80)); err == nil || !strings.Contains(err.Error(), "refused") {
			t.Errorf("%s: %v", a, err)
		}
	}
}

// TestTCPReboot: a reboot ends the guest's connections, and the next boot has
// its own.
func TestTCPReboot(t *testing.T) {
	ended := make(chan struct{}, 1)
	to := serve(t, outside4(), func(c *net.TCPConn) {
		echoServer(c)
		ended <- struct{}{}
	})
	w := newWorld(t, nil)
	conn := w.mustDial(to)
	_, _ = conn.Write([]byte("x"))
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	w.end()
	<-w.served
	<-ended
	w.boot()
	conn = w.mustDial(to)
	_, _ = conn.Write([]byte("x"))
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Error(err)
	}
}

// TestTCPLimit: beyond the limit connections are refused, and below it again made.
func TestTCPLimit(t *testing.T) {
	to := serve(t, outside4(), echoServer)
	w := newWorld(t, nil)
	w.end()
	<-w.served
	w.n.limit = 3
	w.boot()
	var held []net.Conn
	for range 3 {
		held = append(held, w.mustDial(to))
	}
	if _, err := w.dial(to); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("one too many: %v", err)
	}
	_ = held[0].Close()
	deadline := time.Now().Add(patience)
	for {
		conn, err := w.dial(to)
		if err == nil {
			_ = conn.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// TestConnectionsAreWork: what connections leave in memory is to be given back
// after they are made, and after they end.
func TestConnectionsAreWork(t *testing.T) {
	to := serve(t, outside4(), echoServer)
	var calls atomic.Int64
	w := newWorld(t, func(c *Config) { c.Busy = func() { calls.Add(1) } })
	conn := w.mustDial(to)
	made := calls.Load()
	if made == 0 {
		t.Error("a connection that is made is no work")
	}
	_ = conn.Close()
	w.eventually("it is over", func() bool { return w.n.Stats().Open == 0 })
	w.eventually("its end is work", func() bool { return calls.Load() > made })
}
