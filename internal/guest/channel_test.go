package guest_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/yamux"

	"banger.dev/banger/internal/agent/command"
	"banger.dev/banger/internal/agent/control"
	"banger.dev/banger/internal/agent/users"
	"banger.dev/banger/internal/agent/wire"
	"banger.dev/banger/internal/guest"
	"banger.dev/banger/internal/guest/exectest"
)

// aGuest is the guest's side of the channel without a guest: it answers on conn
// as the agent does.
func aGuest(conn net.Conn, ports map[uint32]func(net.Conn)) {
	if err := wire.SyncGuest(conn); err != nil {
		return
	}
	mux, err := yamux.Server(wire.Coalesce(conn), wire.YamuxConfig())
	if err != nil {
		return
	}
	for {
		stream, err := mux.Accept()
		if err != nil {
			return
		}
		go func() {
			port, err := wire.ReadPort(stream)
			if serve, ok := ports[port]; ok && err == nil {
				serve(stream)
				return
			}
			_ = stream.Close()
		}()
	}
}

// serialPair is two ends of a byte stream that buffers, as a serial port does.
func serialPair(t *testing.T) (host, inside net.Conn) {
	t.Helper()
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "port"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	if host, err = net.Dial("unix", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if inside, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = host.Close(), inside.Close() })
	return host, inside
}

// socketToGuest serves a guest socket with a session to a guest that has ports.
func socketToGuest(t *testing.T, ports map[uint32]func(net.Conn)) (socket string, inside net.Conn) {
	t.Helper()
	host, inside := serialPair(t)
	go aGuest(inside, ports)
	if err := wire.SyncHost(host); err != nil {
		t.Fatal(err)
	}
	session, err := guest.NewSession(host)
	if err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(t.TempDir(), "guest.sock")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &guest.Proxy{Open: session.Open, Log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- proxy.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("proxy: %v", err)
		}
		_ = session.Close()
	})
	return socket, inside
}

func execPort() map[uint32]func(net.Conn) {
	return map[uint32]func(net.Conn){wire.PortExec: (&command.Server{Users: &users.DB{}}).Serve}
}

// TestExecTableThroughTheWholeChannel runs the table through everything that is
// between a client and a command, but for the VM.
func TestExecTableThroughTheWholeChannel(t *testing.T) {
	socket, _ := socketToGuest(t, execPort())
	exectest.Run(t, exectest.Stream(agentTarget(), func(ctx context.Context) (net.Conn, error) {
		return guest.Dial(ctx, socket, wire.PortExec)
	}))
}

func TestAGuestThatOpensAStreamEndsTheSession(t *testing.T) {
	host, inside := serialPair(t)
	mux, err := yamux.Server(inside, wire.YamuxConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer mux.Close()
	session, err := guest.NewSession(host)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	_, _ = mux.Open() // it may end before this returns
	<-session.Done()
}

func TestAGuestThatStopsIsALostCommand(t *testing.T) {
	socket, inside := socketToGuest(t, execPort())
	conn, err := guest.Dial(t.Context(), socket, wire.PortExec)
	if err != nil {
		t.Fatal(err)
	}
	out := writerFunc(func(p []byte) (int, error) { return len(p), inside.Close() })
	_, err = guest.Exec(t.Context(), conn, wire.Request{Argv: []wire.Text{"sh", "-c", "echo up; exec sleep 600"}}, guest.Streams{Stdout: out})
	if !errors.Is(err, guest.ErrLost) {
		t.Errorf("got %v", err)
	}
	if _, err := guest.Dial(t.Context(), socket, wire.PortExec); !errors.Is(err, guest.ErrNoAgent) {
		t.Errorf("dialling afterwards: %v", err)
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestAnOutputThatBreaksEndsTheCall(t *testing.T) {
	socket, _ := socketToGuest(t, execPort())
	conn, err := guest.Dial(t.Context(), socket, wire.PortExec)
	if err != nil {
		t.Fatal(err)
	}
	out := writerFunc(func([]byte) (int, error) { return 0, io.ErrClosedPipe })
	if _, err = guest.Exec(t.Context(), conn, wire.Request{Argv: []wire.Text{"sh", "-c", "echo; exec sleep 600"}}, guest.Streams{Stdout: out}); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v", err)
	}
}

func TestACancelledExecSaysWhy(t *testing.T) {
	socket, _ := socketToGuest(t, execPort())
	conn, err := guest.Dial(t.Context(), socket, wire.PortExec)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	out := writerFunc(func(p []byte) (int, error) { cancel(why); return len(p), nil })
	if _, err := guest.Exec(ctx, conn, wire.Request{Argv: []wire.Text{"sh", "-c", "echo; exec sleep 600"}}, guest.Streams{Stdout: out}); !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
}

func TestAPortWithNobodyEndsAtOnce(t *testing.T) {
	socket, _ := socketToGuest(t, nil)
	conn, err := guest.Dial(t.Context(), socket, 4711)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("somebody answered")
	}
}

func TestTheProxyBoundsItsClients(t *testing.T) {
	socket, _ := socketToGuest(t, nil)
	for name, line := range map[string]string{
		"another protocol": "GET / HTTP/1.1\n", "no number": "CONNECT x\n", "too large": "CONNECT 4294967296\n",
		"negative": "CONNECT -1\n", "endless": strings.Repeat("C", 100), "lower case": "connect 1\n", "empty": "\n",
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("unix", socket)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			_, _ = io.WriteString(conn, line)
			if b, _ := io.ReadAll(conn); len(b) > 0 {
				t.Errorf("it was answered %q", b)
			}
		})
	}
}

func TestTheProxyTakesAPipelinedClientAndASlowOne(t *testing.T) {
	echo := func(c net.Conn) { _, _ = io.Copy(c, c); _ = c.Close() }
	socket, _ := socketToGuest(t, map[uint32]func(net.Conn){7: echo})
	for _, pieces := range [][]string{{"CONNECT 7\nhello"}, {"CON", "NECT", " 7", "\n", "hello"}} {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range pieces {
			_, _ = io.WriteString(conn, p)
			time.Sleep(time.Millisecond)
		}
		want := regexpOK("hello")
		got := make([]byte, 0, 64)
		for !want(string(got)) {
			n, err := conn.Read(got[len(got):cap(got)])
			got = got[:len(got)+n]
			if err != nil {
				t.Fatalf("%q, %v", got, err)
			}
		}
		_ = conn.Close()
	}
}

func regexpOK(rest string) func(string) bool {
	return func(s string) bool {
		_, after, ok := strings.Cut(s, "\n")
		return ok && strings.HasPrefix(s, "OK ") && after == rest
	}
}

func TestDialTellsWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	if _, err := guest.Dial(t.Context(), filepath.Join(dir, "nothing"), 1); !errors.Is(err, guest.ErrNoAgent) {
		t.Errorf("no socket: %v", err)
	}
	ln, err := net.Listen("unix", filepath.Join(dir, "silent"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := guest.Dial(ctx, ln.Addr().String(), 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a socket that says nothing: %v", err)
	}
}

func TestControl(t *testing.T) {
	asked := make(chan bool, 1)
	protocol, init := 1, "none"
	server := &control.Server{
		Hello:    func() wire.Hello { return wire.Hello{Protocol: protocol, Generation: 4, Init: init} },
		Init:     func() wire.InitStatus { return wire.InitStatus{State: "starting"} },
		Shutdown: func() error { asked <- true; return nil },
	}
	socket, _ := socketToGuest(t, map[uint32]func(net.Conn){wire.PortControl: server.Serve})
	c := guest.Control{Name: "box", Dial: func(ctx context.Context) (net.Conn, error) { return guest.Dial(ctx, socket, wire.PortControl) }}
	if h, err := c.Hello(t.Context()); err != nil || h.Generation != 4 {
		t.Errorf("hello %+v, %v", h, err)
	}
	if s, err := c.InitStatus(t.Context()); err != nil || s.State != "starting" || s.Done {
		t.Errorf("init %+v, %v", s, err)
	}
	if err := c.Shutdown(t.Context()); err != nil || !<-asked {
		t.Errorf("shutdown: %v", err)
	}
	if err := c.SetClock(t.Context(), time.Unix(-5, 0)); err == nil || !strings.Contains(err.Error(), "no clock") {
		t.Errorf("a clock that cannot be: %v", err)
	}
	protocol = wire.Version + 1
	var other *guest.ProtocolError
	if _, err := c.Hello(t.Context()); !errors.As(err, &other) || !strings.Contains(err.Error(), "restart box") {
		t.Errorf("a protocol of tomorrow: %v", err)
	}
	protocol, init = 1, strings.Repeat("x", 100_000)
	if h, err := c.Hello(t.Context()); err == nil || h.Init != "" {
		t.Errorf("more than anybody has to say of itself: %d bytes, %v", len(h.Init), err)
	}
}

// TestControlGivesUp: an agent that takes a question and says nothing holds
// nobody for longer than they want to wait.
func TestControlGivesUp(t *testing.T) {
	host, inside := serialPair(t)
	ctx, cancel := context.WithCancel(t.Context())
	go aGuest(inside, map[uint32]func(net.Conn){wire.PortControl: func(c net.Conn) {
		_, _ = http.ReadRequest(bufio.NewReader(c))
		cancel()
	}})
	if err := wire.SyncHost(host); err != nil {
		t.Fatal(err)
	}
	session, err := guest.NewSession(host)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = session.Close() }()
	c := guest.Control{Dial: func(ctx context.Context) (net.Conn, error) { return session.Open(ctx, wire.PortControl) }}
	done := make(chan error, 1)
	go func() {
		_, err := c.Clock(ctx)
		done <- err
	}()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	case <-time.After(time.Minute):
		t.Error("the call goes on")
	}
}

// TestControlQuotesTheGuest: what a guest says must not reach a terminal as it is.
func TestControlQuotesTheGuest(t *testing.T) {
	evil := func(c net.Conn) {
		defer func() { _ = c.Close() }()
		if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
			return
		}
		body := "{\"error\":\"\x1b[2J\\u001b]0;x\"}"
		_, _ = fmt.Fprintf(c, "HTTP/1.1 500 \x1b[31mX\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	}
	socket, _ := socketToGuest(t, map[uint32]func(net.Conn){wire.PortControl: evil})
	c := guest.Control{Dial: func(ctx context.Context) (net.Conn, error) { return guest.Dial(ctx, socket, wire.PortControl) }}
	if err := c.Shutdown(t.Context()); err == nil || bytes.ContainsRune([]byte(err.Error()), 0x1b) {
		t.Errorf("got %v", err)
	}
}

// TestGuestThatReadsNothing: who tries again and again to reach a guest that
// stands still leaves no more behind than a bound.
func TestGuestThatReadsNothing(t *testing.T) {
	host, inside := net.Pipe()
	session, err := guest.NewSession(host)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = inside.Close(), session.Close() }()
	before := runtime.NumGoroutine()
	var tries sync.WaitGroup
	for range 2000 {
		tries.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			if conn, err := session.Open(ctx, wire.PortDial); err == nil {
				_ = conn.Close()
				t.Error("it was opened")
			}
		})
	}
	tries.Wait()
	if left := runtime.NumGoroutine() - before; left > 300 {
		t.Errorf("2000 tries left %d goroutines", left)
	}
}
