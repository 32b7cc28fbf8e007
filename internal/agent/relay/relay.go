// Package relay carries a socket over a stream of the guest channel, in the
// pieces of wire.PieceType: a TCP connection with its half-closes and resets, or
// the datagrams of one UDP flow. Both ends of the channel use it; who dials what
// is not its business.
package relay

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"banger.dev/banger/internal/agent/wire"
)

// An idle connection holds small buffers; one that fills them gets bulk ones.
const (
	smallBuffer = 2 << 10
	bulkBuffer  = 60 << 10
)

// Relay carries sockets. The zero value is ready; it keeps the bulk buffers.
// Its methods may be called from any goroutine.
type Relay struct{ buffers sync.Pool }

// TCP carries conn over stream until both ways have ended or either is broken
// off, and closes both. A connection that is broken off is reset at its other
// end. A reader that stops holds back its own writer and nobody else.
func (r *Relay) TCP(conn *net.TCPConn, stream net.Conn) {
	breakOff := sync.OnceFunc(func() {
		_ = conn.SetLinger(0) // so that Close is a reset
		_ = conn.Close()
		Close(stream)
	})
	var ended atomic.Int32 // ways; after both the stream has no more use
	end := func() {
		if ended.Add(1) == 2 {
			Close(stream)
		}
	}
	var out sync.WaitGroup
	out.Go(func() {
		if err := r.send(stream, conn); err != nil {
			breakOff()
			return
		}
		end()
	})
	// The other end closes the stream after both ways have ended, or because it
	// broke off: so the stream is listened to for as long as there is something to send.
	if r.receive(conn, stream, end); ended.Load() < 2 {
		breakOff()
	}
	out.Wait()
	_ = conn.Close()
	Close(stream)
}

// send sends pieces of what conn says until its end, and then PieceEnd.
func (r *Relay) send(stream io.Writer, conn io.Reader) error {
	small := make([]byte, wire.PieceHeaderSize+smallBuffer)
	buf := small
	var bulk *[]byte
	defer func() { r.put(bulk) }()
	for {
		n, err := conn.Read(buf[wire.PieceHeaderSize:])
		if n > 0 {
			if err := wire.WritePiece(stream, wire.PieceData, buf[:wire.PieceHeaderSize+n]); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return wire.WritePiece(stream, wire.PieceEnd, small[:wire.PieceHeaderSize])
		case err != nil:
			return err
		case bulk == nil && n == smallBuffer:
			bulk = r.get()
			buf = *bulk
		case bulk != nil && n <= smallBuffer:
			r.put(bulk)
			bulk, buf = nil, small
		}
	}
}

// receive gives conn what the pieces of stream hold until the stream ends or is
// of no more use. end is called when no more comes this way.
func (r *Relay) receive(conn *net.TCPConn, stream io.Reader, end func()) {
	for over := false; ; {
		t, length, err := wire.ReadPieceHeader(stream)
		switch {
		case err != nil || over:
			return
		case t == wire.PieceEnd:
			if conn.CloseWrite() != nil {
				return
			}
			over = true
			end()
			continue
		}
		if r.pass(conn, stream, length) != nil {
			return
		}
	}
}

func (r *Relay) pass(conn io.Writer, stream io.Reader, length int) error {
	bulk := r.get()
	defer r.put(bulk)
	for length > 0 {
		n, err := stream.Read((*bulk)[:min(length, len(*bulk))])
		if n > 0 {
			length -= n
			if _, err := conn.Write((*bulk)[:n]); err != nil {
				return err
			}
		}
		if err != nil && length > 0 {
			return err
		}
	}
	return nil
}

func (r *Relay) get() *[]byte {
	if b, ok := r.buffers.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, wire.PieceHeaderSize+bulkBuffer)
	return &b
}

func (r *Relay) put(b *[]byte) {
	if b != nil {
		r.buffers.Put(b)
	}
}

// Close closes a stream and ends the reads from it, which go on after the Close
// of a yamux stream until the other side has closed too.
func Close(stream net.Conn) {
	_ = stream.Close()
	_ = stream.SetReadDeadline(time.Unix(1, 0))
}

// SendDatagram sends one datagram, which is buf[wire.PieceHeaderSize:].
func SendDatagram(stream io.Writer, buf []byte) error {
	return wire.WritePiece(stream, wire.PieceData, buf)
}

// ReceiveDatagram reads one datagram into buf, which has room for wire.MaxPiece.
// Every end of the stream is an error.
func ReceiveDatagram(stream io.Reader, buf []byte) (int, error) {
	t, length, err := wire.ReadPieceHeader(stream)
	if err != nil {
		return 0, err
	}
	if t != wire.PieceData {
		return 0, io.EOF
	}
	return io.ReadFull(stream, buf[:length])
}
