package relay

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"banger.dev/banger/internal/agent/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what takes a moment on an idle host.
const patience = time.Minute

// carry carries one connection; client is its one end, other the end of the
// stream that is not ours.
func carry(t *testing.T, window int) (client *net.TCPConn, other net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	ours, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = ours.(*net.TCPConn).SetWriteBuffer(4 << 10)
	stream, other := net.Pipe()
	_ = other.SetDeadline(time.Now().Add(patience))
	_ = conn.SetDeadline(time.Now().Add(patience))
	r, done := &Relay{}, make(chan struct{})
	go func() {
		defer close(done)
		r.TCP(ours.(*net.TCPConn), Stream{stream, window})
	}()
	t.Cleanup(func() {
		_, _ = other.Close(), conn.Close()
		<-done
		if lent := r.lent.Load(); lent != 0 {
			t.Errorf("%d bytes are still lent", lent)
		}
	})
	return conn.(*net.TCPConn), other
}

// Who sends more than he may is broken off.
func TestAnOverrunIsBrokenOff(t *testing.T) {
	client, other := carry(t, Window)
	_ = client.SetReadBuffer(4 << 10)
	go func() { _, _ = io.Copy(io.Discard, other) }() // what he is told does not matter to him
	piece := make([]byte, wire.PieceHeaderSize+bulkBuffer)
	for {
		if err := wire.WritePiece(other, wire.PieceData, piece); err != nil {
			break
		}
	}
	if _, err := io.Copy(io.Discard, client); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the connection ended with %v, not with a reset", err)
	}
}

// Nothing is sent that the other end has not given leave to.
func TestOnlyWhatMayBeIsSent(t *testing.T) {
	client, other := carry(t, 5)
	if _, err := client.Write([]byte("0123456789")); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"01234", "567"} {
		kind, length, err := wire.ReadPieceHeader(other)
		if err != nil || kind != wire.PieceData || length != len(want) {
			t.Fatalf("a piece of type %d and %d bytes, %v", kind, length, err)
		}
		b := make([]byte, length)
		if _, err := io.ReadFull(other, b); err != nil || string(b) != want {
			t.Fatalf("%q, %v", b, err)
		}
		if err := wire.WriteTaken(other, 3); err != nil {
			t.Fatal(err)
		}
	}
}
