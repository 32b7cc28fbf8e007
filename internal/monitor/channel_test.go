package monitor

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"testing"
	"time"

	"github.com/hashicorp/yamux"
	"golang.org/x/sys/unix"

	"banger.dev/banger/internal/agent/wire"
	"banger.dev/banger/internal/vmm/vmmtest/fakeguest"
)

// serialPort is a channel and the guest's end of it, which stays open over
// sessions as a serial port does.
func serialPort(t *testing.T) (*channel, *os.File) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	host, port := os.NewFile(uintptr(pair[0]), "host"), os.NewFile(uintptr(pair[1]), "port")
	c := newChannel(host, slog.New(slog.DiscardHandler))
	t.Cleanup(func() {
		c.end()
		_ = host.Close()
		_ = port.Close()
	})
	return c, port
}

// echoAgent is one session of a guest whose every port says its name and then
// echoes. It ends when stop is called, leaving the port open.
func echoAgent(t *testing.T, port *os.File, name byte) (stop func()) {
	t.Helper()
	if err := port.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	lent := &interruptible{stream: port}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if wire.SyncGuest(lent) != nil {
			return
		}
		session, err := yamux.Server(wire.Coalesce(lent), wire.YamuxConfig())
		if err != nil {
			return
		}
		for {
			stream, err := session.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = stream.Close() }()
				if _, err := wire.ReadPort(stream); err != nil {
					return
				}
				_, _ = stream.Write([]byte{name})
				_, _ = io.Copy(stream, stream)
			}()
		}
	}()
	return func() {
		_ = lent.Close()
		<-ended
	}
}

// opened tells the channel that the guest has opened its end, and waits for the session.
func (c *channel) mustOpen(t *testing.T) {
	t.Helper()
	established := make(chan struct{})
	c.opened(func() { close(established) })
	select {
	case <-established:
	case <-time.After(patience):
		t.Fatal("no session")
	}
}

func (c *channel) mustDial(t *testing.T, name byte) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := c.open(ctx, fakeguest.PortEcho)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	var said [1]byte
	if _, err := io.ReadFull(conn, said[:]); err != nil || said[0] != name {
		t.Fatalf("session %q answers instead of %q (%v)", said, name, err)
	}
	return conn
}

func assertEchoes(t *testing.T, conn net.Conn, size int) {
	t.Helper()
	sent := make([]byte, size)
	_, _ = rand.Read(sent) // never fails
	go func() { _, _ = conn.Write(sent) }()
	got := make([]byte, size)
	if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d bytes did not come back as they were sent (%v)", size, err)
	}
}

// TestChannelSessions: the agent dies in mid-traffic again and again; each
// session is whole and knows nothing of those before.
func TestChannelSessions(t *testing.T) {
	c, port := serialPort(t)
	for n := range 8 {
		name := byte('a' + n)
		stop := echoAgent(t, port, name)
		c.mustOpen(t)
		assertEchoes(t, c.mustDial(t, name), 300_000)
		busy := c.mustDial(t, name) // has bytes on their way when the session ends
		written := make(chan struct{})
		go func() {
			defer close(written)
			for {
				if _, err := busy.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		}()
		read := make(chan struct{})
		go func() {
			defer close(read)
			_, _ = io.Copy(io.Discard, busy)
		}()
		if n%2 == 0 { // we may hear of the end, or only of the next opening
			c.closed()
			stop()
		} else {
			stop()
			if n%4 == 1 {
				leaveJunk(t, port)
			}
			c.closed()
		}
		<-written
		<-read
	}
}

// leaveJunk puts into the port what looks like frames of yamux and like markers
// of a handshake that was cut short.
func leaveJunk(t *testing.T, port *os.File) {
	t.Helper()
	if err := port.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	junk := bytes.Repeat([]byte{0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 4, 'j', 'u', 'n', 'k'}, 100)
	junk = append(junk, "BNGRHELO0123456789"...)
	if _, err := port.Write(junk); err != nil {
		t.Fatal(err)
	}
}

func TestChannelOpenWaits(t *testing.T) {
	c, port := serialPort(t)
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := c.open(short, fakeguest.PortEcho); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("without a session: %v", err)
	}
	opened := make(chan net.Conn, 1)
	go func() {
		conn, err := c.open(t.Context(), fakeguest.PortEcho)
		if err != nil {
			t.Error(err)
		}
		opened <- conn
	}()
	stop := echoAgent(t, port, 'x')
	defer stop()
	c.mustOpen(t)
	if conn := <-opened; conn != nil {
		_ = conn.Close()
	}
}

// TestChannelWaitsForTheNextSession: between the death of a session and the
// news of it, nobody is sent to the dead.
func TestChannelWaitsForTheNextSession(t *testing.T) {
	c, port := serialPort(t)
	stop := echoAgent(t, port, 'x')
	c.mustOpen(t)
	assertEchoes(t, c.mustDial(t, 'x'), 1000)
	c.mu.Lock()
	session := c.session
	c.mu.Unlock()
	stop()
	leaveJunk(t, port)
	if _, err := port.Write(bytes.Repeat([]byte{0xff}, 64)); err != nil { // no frame of yamux
		t.Fatal(err)
	}
	<-session.Done()
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := c.open(short, fakeguest.PortEcho); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with a session that is over: %v", err)
	}
	stop = echoAgent(t, port, 'y')
	defer stop()
	c.mustOpen(t)
	assertEchoes(t, c.mustDial(t, 'y'), 1000)
}

func TestChannelEnds(t *testing.T) {
	c, port := serialPort(t)
	waiting := make(chan error, 1)
	go func() {
		_, err := c.open(t.Context(), fakeguest.PortEcho)
		waiting <- err
	}()
	c.end()
	c.end()
	if err := <-waiting; !errors.Is(err, errChannelEnded) {
		t.Errorf("one who waits at the end: %v", err)
	}
	stop := echoAgent(t, port, 'x')
	defer stop()
	c.opened(func() { t.Error("a session began after the end") })
	if _, err := c.open(t.Context(), fakeguest.PortEcho); !errors.Is(err, errChannelEnded) {
		t.Errorf("after the end: %v", err)
	}
}

// TestChannelOfASilentGuest: a guest that opens its end and says nothing can be
// given up at any moment.
func TestChannelOfASilentGuest(t *testing.T) {
	c, port := serialPort(t)
	for range 20 {
		c.opened(func() { t.Error("a session with nobody") })
	}
	c.closed()
	stop := echoAgent(t, port, 'x')
	defer stop()
	c.mustOpen(t)
	assertEchoes(t, c.mustDial(t, 'x'), 1000)
}
