package publish

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/yamux"
	"go.uber.org/goleak"

	"banger.dev/banger"
	"banger.dev/banger/internal/agent/dial"
	"banger.dev/banger/internal/agent/relay"
	"banger.dev/banger/internal/agent/wire"
	"banger.dev/banger/internal/guest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what takes a moment on an idle host.
const patience = time.Minute

// newSet publishes ports of this host itself, through the agent's dial port and
// the same streams as a guest's.
func newSet(t *testing.T) *Set {
	t.Helper()
	host, inside := net.Pipe()
	mux, err := yamux.Server(wire.Coalesce(inside), wire.YamuxConfig())
	if err != nil {
		t.Fatal(err)
	}
	server := &dial.Server{}
	var agent sync.WaitGroup
	agent.Go(func() {
		for {
			stream, err := mux.Accept()
			if err != nil {
				return
			}
			agent.Go(func() {
				if port, err := wire.ReadPort(stream); err != nil || port != wire.PortDial {
					_ = stream.Close()
					return
				}
				server.Serve(stream)
			})
		}
	})
	session, err := guest.NewSession(host)
	if err != nil {
		t.Fatal(err)
	}
	s := New(func(ctx context.Context, req wire.DialRequest) (relay.Stream, error) {
		return guest.DialPort(ctx, session.Open, req)
	}, slog.New(slog.NewTextHandler(t.Output(), nil)))
	t.Cleanup(func() {
		s.Close()
		_ = session.Close()
		_ = mux.Close()
		agent.Wait()
	})
	s.Serve()
	return s
}

// publish publishes a server's port and says where.
func (s *Set) publish(t *testing.T, server net.Addr, protocol banger.Protocol) banger.Port {
	t.Helper()
	p := banger.Port{HostIP: "127.0.0.1", GuestPort: portOf(server), Protocol: protocol}
	var err error
	if p.HostPort, err = Free(p); err != nil {
		t.Fatal(err)
	}
	if err := s.Sync([]banger.Port{p}); err != nil {
		t.Fatal(err)
	}
	return p
}

func portOf(a net.Addr) int {
	switch a := a.(type) {
	case *net.TCPAddr:
		return a.Port
	case *net.UDPAddr:
		return a.Port
	}
	return 0
}

// tcpServer serves each connection in a goroutine of its own.
func tcpServer(t *testing.T, address string, serve func(*net.TCPConn)) net.Addr {
	t.Helper()
	ln, err := net.Listen("tcp", address)
	if err != nil {
		t.Skipf("this host cannot listen on %s: %v", address, err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				serve(conn.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		wg.Wait()
	})
	return ln.Addr()
}

// echo answers only when the client has said all: both half-closes must arrive.
func echo(conn *net.TCPConn) {
	all, err := io.ReadAll(conn)
	if err == nil {
		_, _ = conn.Write(all)
	}
}

func connect(t *testing.T, p banger.Port) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", p.Host())
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { _ = conn.Close() })
	return conn.(*net.TCPConn)
}

// exchange sends all, ends its way, and reads all.
func exchange(conn *net.TCPConn, sent []byte) ([]byte, error) {
	werr := make(chan error, 1)
	go func() {
		_, err := conn.Write(sent)
		werr <- errors.Join(err, conn.CloseWrite())
	}()
	got, err := io.ReadAll(conn)
	return got, errors.Join(err, <-werr)
}

func TestBytesAndHalfClosesArrive(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		s := newSet(t)
		p := s.publish(t, tcpServer(t, address, echo), banger.ProtocolTCP)
		var clients sync.WaitGroup
		for _, size := range []int{0, 1, smallSize, 8 << 20} {
			clients.Go(func() {
				sent := make([]byte, size)
				_, _ = rand.Read(sent)
				conn := connect(t, p)
				if got, err := exchange(conn, sent); err != nil || !bytes.Equal(got, sent) {
					t.Errorf("%s: %d bytes came back of %d (%v)", address, len(got), size, err)
				}
			})
		}
		clients.Wait()
	}
}

const smallSize = 2 << 10

// wantRefusal is wantReset for a new connection, which may be reset before Dial
// has returned.
func wantRefusal(t *testing.T, p banger.Port) {
	t.Helper()
	conn, err := net.Dial("tcp", p.Host())
	if err == nil {
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(patience))
		_, err = io.Copy(io.Discard, conn)
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the connection ended with %v, not with a reset", err)
	}
}

// wantReset reads until the connection is reset.
func wantReset(t *testing.T, conn net.Conn) {
	t.Helper()
	if _, err := io.Copy(io.Discard, conn); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the connection ended with %v, not with a reset", err)
	}
}

func TestNobodyListensIsAReset(t *testing.T) {
	s := newSet(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := ln.Addr()
	_ = ln.Close()
	wantRefusal(t, s.publish(t, nobody, banger.ProtocolTCP))
}

func TestAResetGoesThroughBothWays(t *testing.T) {
	s := newSet(t)
	ended := make(chan error, 1)
	p := s.publish(t, tcpServer(t, "127.0.0.1:0", func(conn *net.TCPConn) {
		if _, err := io.WriteString(conn, "x"); err != nil {
			t.Error(err)
		}
		_, err := io.Copy(io.Discard, conn)
		ended <- err
	}), banger.ProtocolTCP)
	conn := connect(t, p)
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	reset(conn)
	if err := <-ended; !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the server's connection ended with %v", err)
	}

	p = s.publish(t, tcpServer(t, "127.0.0.1:0", func(conn *net.TCPConn) {
		_, _ = io.ReadFull(conn, make([]byte, 1))
		reset(conn)
	}), banger.ProtocolTCP)
	conn = connect(t, p)
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	wantReset(t, conn)
}

// flood says things to conn for as long as somebody listens.
func flood(conn net.Conn, said *atomic.Int64) error {
	buf := make([]byte, 64<<10)
	for {
		n, err := conn.Write(buf)
		said.Add(int64(n))
		if err != nil {
			return err
		}
	}
}

// A client that reads nothing holds back its own server, and nobody else.
func TestAStoppedReaderHoldsBackItself(t *testing.T) {
	s := newSet(t)
	broken := make(chan error, 1)
	flood := tcpServer(t, "127.0.0.1:0", func(conn *net.TCPConn) { broken <- flood(conn, new(atomic.Int64)) })
	a := s.publish(t, flood, banger.ProtocolTCP)
	stuck := connect(t, a)
	b := banger.Port{HostIP: "127.0.0.1", GuestPort: portOf(tcpServer(t, "127.0.0.1:0", echo)), Protocol: banger.ProtocolTCP}
	var err error
	if b.HostPort, err = Free(b); err != nil {
		t.Fatal(err)
	}
	if err := s.Sync([]banger.Port{a, b}); err != nil {
		t.Fatal(err)
	}
	sent := bytes.Repeat([]byte("0123456789"), 1<<19)
	if got, err := exchange(connect(t, b), sent); err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d bytes of %d (%v)", len(got), len(sent), err)
	}
	select {
	case err := <-broken:
		t.Errorf("the flood ended: %v", err)
	default:
	}
	reset(stuck)
	<-broken
}

// What a client does not read does not keep it from sending.
func TestAStoppedReaderSends(t *testing.T) {
	s := newSet(t)
	const size = 8 << 20
	got := make(chan int64, 1)
	p := s.publish(t, tcpServer(t, "127.0.0.1:0", func(conn *net.TCPConn) {
		var flooding sync.WaitGroup
		flooding.Go(func() { _ = flood(conn, new(atomic.Int64)) })
		n, _ := io.CopyN(io.Discard, conn, size)
		got <- n
		_ = conn.Close()
		flooding.Wait()
	}), banger.ProtocolTCP)
	conn := connect(t, p)
	if _, err := conn.Write(make([]byte, size)); err != nil {
		t.Error(err)
	}
	if n := <-got; n != size {
		t.Errorf("%d bytes of %d", n, size)
	}
}

// Clients that have read much, and then read nothing more, cost the process
// little, however many there are.
func TestStoppedReadersAreBounded(t *testing.T) {
	const clients, bound = 160, 128 << 20 // as much again is what a window of yamux each would be
	s := newSet(t)
	var said atomic.Int64
	here, begin := make(chan struct{}, clients), make(chan struct{})
	p := s.publish(t, tcpServer(t, "127.0.0.1:0", func(conn *net.TCPConn) {
		here <- struct{}{}
		<-begin
		_ = flood(conn, &said)
	}), banger.ProtocolTCP)
	var all []net.Conn
	for range clients {
		all = append(all, connect(t, p))
		<-here
	}
	close(begin)
	var reading sync.WaitGroup
	for _, conn := range all {
		reading.Go(func() {
			if _, err := io.CopyN(io.Discard, conn, 1<<20); err != nil {
				t.Error(err)
			}
		})
	}
	reading.Wait()
	for still, before := 0, int64(0); still < 10; time.Sleep(20 * time.Millisecond) {
		if now := said.Load(); now != before {
			still, before = 0, now
			continue
		}
		still++
	}
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if t.Logf("%d bytes", m.HeapInuse); m.HeapInuse > bound {
		t.Errorf("%d clients that do not read cost %d bytes", clients, m.HeapInuse)
	}
}

// An agent of before there were windows is held back by what is not read.
func TestAnAgentThatDoesNotCount(t *testing.T) {
	s := newSet(t)
	dial := s.dial
	s.dial = func(ctx context.Context, req wire.DialRequest) (relay.Stream, error) {
		req.Window = 0
		return dial(ctx, req)
	}
	p := s.publish(t, tcpServer(t, "127.0.0.1:0", echo), banger.ProtocolTCP)
	sent := bytes.Repeat([]byte("0123456789"), 1<<19)
	if got, err := exchange(connect(t, p), sent); err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d bytes of %d (%v)", len(got), len(sent), err)
	}
	stuck := make([]*net.TCPConn, maxOld)
	for i := range stuck {
		stuck[i] = connect(t, p)
	}
	for deadline := time.Now().Add(patience); len(s.old) < maxOld; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d are carried", len(s.old))
		}
	}
	wantRefusal(t, p)
	for _, conn := range stuck {
		if got, err := exchange(conn, []byte("x")); string(got) != "x" || err != nil {
			t.Errorf("%q %v", got, err)
		}
	}
}

func TestAPortThatGoesTakesItsConnections(t *testing.T) {
	s := newSet(t)
	p := s.publish(t, tcpServer(t, "127.0.0.1:0", echo), banger.ProtocolTCP)
	stays := p
	var err error
	if stays.HostPort, err = Free(p); err != nil {
		t.Fatal(err)
	}
	if err := s.Sync([]banger.Port{p, stays}); err != nil {
		t.Fatal(err)
	}
	cut, kept := connect(t, p), connect(t, stays)
	if _, err := kept.Write([]byte("a")); err != nil {
		t.Fatal(err)
	}
	if err := s.Sync([]banger.Port{stays}); err != nil {
		t.Fatal(err)
	}
	wantReset(t, cut)
	if err := Probe(p); err != nil {
		t.Errorf("the port is not free: %v", err)
	}
	if got, err := exchange(kept, []byte("b")); string(got) != "ab" || err != nil {
		t.Errorf("%q %v", got, err)
	}
}

// A paused guest takes nothing, not even the end of a stream.
func TestAPortGoesWhileTheGuestTakesNothing(t *testing.T) {
	host, inside := net.Pipe()
	session, err := guest.NewSession(host)
	if err != nil {
		t.Fatal(err)
	}
	opened := make(chan struct{})
	s := New(func(ctx context.Context, _ wire.DialRequest) (relay.Stream, error) {
		defer close(opened)
		conn, err := session.Open(ctx, wire.PortDial)
		return relay.Stream{Conn: conn}, err
	}, slog.New(slog.NewTextHandler(t.Output(), nil)))
	var reading sync.WaitGroup
	reading.Go(func() { _, _ = io.Copy(io.Discard, inside) })
	t.Cleanup(func() {
		_ = session.Close()
		s.Close()
		_ = inside.Close()
	})
	s.Serve()
	p := s.publish(t, &net.TCPAddr{Port: 1}, banger.ProtocolTCP)
	conn := connect(t, p)
	<-opened
	_ = inside.SetReadDeadline(time.Unix(1, 0))
	reading.Wait()

	done := make(chan error, 1)
	go func() { done <- s.Sync(nil) }()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Error("the port does not go")
		_ = session.Close()
		<-done
	}
	wantReset(t, conn)
	if err := Probe(p); err != nil {
		t.Errorf("the port is not free: %v", err)
	}
}

func TestAllPortsOrNone(t *testing.T) {
	s := newSet(t)
	server := tcpServer(t, "127.0.0.1:0", echo)
	first := s.publish(t, server, banger.ProtocolTCP)
	taken := banger.Port{HostIP: "127.0.0.1", HostPort: portOf(server), GuestPort: 1, Protocol: banger.ProtocolTCP}
	fresh := first
	var err error
	if fresh.HostPort, err = Free(first); err != nil {
		t.Fatal(err)
	}
	err = s.Sync([]banger.Port{fresh, taken})
	if banger.KindOf(err) != banger.KindConflict || !strings.Contains(err.Error(), taken.Host()) {
		t.Errorf("%v", err)
	}
	if err := Probe(fresh); err != nil {
		t.Errorf("%v", err)
	}
	if got, err := exchange(connect(t, first), []byte("here")); string(got) != "here" || err != nil {
		t.Errorf("%q %v", got, err)
	}
}

func TestProbeNamesTheOwner(t *testing.T) {
	for _, ip := range []string{"127.0.0.1", "::1"} {
		p := banger.Port{HostIP: ip, GuestPort: 1, Protocol: banger.ProtocolTCP}
		ln, err := net.Listen("tcp", p.Host())
		if err != nil {
			t.Logf("this host has no %s", ip)
			continue
		}
		p.HostPort = portOf(ln.Addr())
		for _, wanted := range []string{ip, map[string]string{"127.0.0.1": "0.0.0.0", "::1": "::"}[ip]} {
			p.HostIP = wanted
			err = Probe(p)
			if banger.KindOf(err) != banger.KindConflict || !strings.Contains(err.Error(), fmt.Sprintf("pid %d", os.Getpid())) {
				t.Errorf("%s: %v", p, err)
			}
		}
		_ = ln.Close()
		if err := Probe(p); err != nil {
			t.Errorf("%s, free again: %v", p, err)
		}
	}
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	p := banger.Port{HostIP: "127.0.0.1", HostPort: portOf(udp.LocalAddr()), GuestPort: 1, Protocol: banger.ProtocolUDP}
	if err := Probe(p); banger.KindOf(err) != banger.KindConflict || !strings.Contains(err.Error(), "pid") {
		t.Errorf("%v", err)
	}
	p.HostIP = "192.0.2.1"
	if err := Probe(p); banger.KindOf(err) != banger.KindInvalid || !strings.Contains(err.Error(), "no address 192.0.2.1") {
		t.Errorf("%v", err)
	}
}

// udpServer answers each datagram with itself.
func udpServer(t *testing.T, address string) *net.UDPConn {
	t.Helper()
	pc, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Skipf("this host cannot listen on %s: %v", address, err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, wire.MaxPiece)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = pc.WriteTo(buf[:n], from)
		}
	})
	t.Cleanup(func() {
		_ = pc.Close()
		wg.Wait()
	})
	return pc.(*net.UDPConn)
}

// say sends a datagram until it is answered: datagrams may be lost.
func say(t *testing.T, conn net.Conn, datagram []byte) {
	t.Helper()
	buf := make([]byte, wire.MaxPiece)
	for range 100 {
		if _, err := conn.Write(datagram); err != nil {
			t.Fatal(err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(time.Second))
		n, err := conn.Read(buf)
		for err == nil && !bytes.Equal(buf[:n], datagram) { // the answer to an earlier one
			n, err = conn.Read(buf)
		}
		if err == nil {
			return
		}
	}
	t.Fatalf("%d bytes were never answered", len(datagram))
}

func TestDatagrams(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		s := newSet(t)
		p := s.publish(t, udpServer(t, address).LocalAddr(), banger.ProtocolUDP)
		for i := range 3 { // clients, each with a flow
			conn, err := net.Dial("udp", p.Host())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			for _, size := range []int{1, 1400, 60000} {
				say(t, conn, bytes.Repeat([]byte{byte('a' + i)}, size))
			}
		}
	}
}

// A flow without use ends, and its client may begin another.
func TestAnIdleFlowEnds(t *testing.T) {
	s := newSet(t)
	s.idle = 20 * time.Millisecond
	p := s.publish(t, udpServer(t, "127.0.0.1:0").LocalAddr(), banger.ProtocolUDP)
	conn, err := net.Dial("udp", p.Host())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for range 2 {
		say(t, conn, []byte("hello"))
		for deadline := time.Now().Add(patience); len(s.flows) > 0; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the flow stays")
			}
		}
	}
}

// Datagrams for a guest that takes none are dropped before they fill the host's
// memory, and room is made when their flows end.
func TestDatagramsThatWaitAreBounded(t *testing.T) {
	s := New(func(ctx context.Context, _ wire.DialRequest) (relay.Stream, error) {
		<-ctx.Done() // a guest that is not up yet
		return relay.Stream{}, context.Cause(ctx)
	}, slog.New(slog.NewTextHandler(t.Output(), nil)))
	t.Cleanup(s.Close)
	f := &flows{set: s, l: &published{port: banger.Port{Protocol: banger.ProtocolUDP}}, live: map[netip.AddrPort]*flow{}}
	f.l.ctx, f.l.cancel = context.WithCancel(s.ctx)
	datagram := make([]byte, 60000)
	for client := range uint16(100) {
		for range flowQueue + 1 {
			f.take(netip.AddrPortFrom(netip.IPv6Loopback(), client+1), datagram)
		}
	}
	if got := s.queued.Load(); got > maxQueued || got < maxQueued/2 {
		t.Errorf("%d bytes wait", got)
	}
	s.Close()
	if got := s.queued.Load(); got != 0 || len(f.live) != 0 {
		t.Errorf("%d bytes wait in %d flows when all have ended", got, len(f.live))
	}
}
