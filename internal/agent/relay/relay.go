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

	"banger.dev/banger/internal/agent/credit"
	"banger.dev/banger/internal/agent/wire"
)

// An idle connection holds small buffers; one that fills them gets bulk ones.
const (
	smallBuffer = 2 << 10
	bulkBuffer  = 60 << 10
)

// Relay carries sockets. The zero value is ready; it keeps the bulk buffers, and
// what windows are larger than Window. Its methods may be called from any
// goroutine.
type Relay struct {
	buffers sync.Pool // for pieces
	queues  sync.Pool // for what waits, of any size
	lent    atomic.Int64
}

// Stream is a stream of the guest channel for one connection. Window is how many
// bytes may be sent on it before the other side tells of more; 0: it does not
// count, and neither do we.
type Stream struct {
	net.Conn
	Window int
}

// TCP carries conn over stream until both ways have ended or either is broken
// off, and closes both. A connection that is broken off is reset at its other
// end. A reader that stops holds back its own writer and nobody else.
func (r *Relay) TCP(conn *net.TCPConn, stream Stream) {
	breakOff := sync.OnceFunc(func() {
		_ = conn.SetLinger(0) // so that Close is a reset
		_ = conn.Close()
		Close(stream)
	})
	c := &carrying{relay: r, conn: conn, stream: stream, in: newInbox(r, stream.Window > 0), out: allowance(stream.Window)}
	defer c.in.close()
	var ways sync.WaitGroup
	for _, way := range []func() error{c.send, c.take} {
		ways.Go(func() {
			switch {
			case way() != nil:
				breakOff()
			case c.ended.Add(1) == 2: // the stream has no more use
				Close(stream)
			}
		})
	}
	// The other end closes the stream after both ways have ended, or because it
	// broke off: so the stream is listened to for as long as there is something to send.
	if !c.receive() {
		breakOff()
		c.in.breakOff()
		c.out.End()
	}
	ways.Wait()
	_ = conn.Close()
	Close(stream)
}

// carrying is one connection on its stream.
type carrying struct {
	relay  *Relay
	conn   *net.TCPConn
	stream Stream
	in     *inbox         // what has come for conn
	out    *credit.Credit // what conn may still say
	said   atomic.Bool    // conn has said all
	ended  atomic.Int32
}

// send sends pieces of what conn says until its end, and then PieceEnd.
func (c *carrying) send() error {
	small := make([]byte, wire.PieceHeaderSize+smallBuffer)
	buf := small
	var bulk *[]byte
	defer func() { c.relay.put(bulk) }()
	for {
		room := c.out.Wait(len(buf) - wire.PieceHeaderSize)
		if room == 0 {
			return errBrokenOff
		}
		n, err := c.conn.Read(buf[wire.PieceHeaderSize : wire.PieceHeaderSize+room])
		c.out.Spend(n)
		if n > 0 {
			if err := wire.WritePiece(c.stream, wire.PieceData, buf[:wire.PieceHeaderSize+n]); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			c.said.Store(true) // before the other end can know
			return wire.WritePiece(c.stream, wire.PieceEnd, small[:wire.PieceHeaderSize])
		case err != nil:
			return err
		case bulk == nil && n == smallBuffer:
			bulk = c.relay.get()
			buf = *bulk
		case bulk != nil && n <= smallBuffer:
			c.relay.put(bulk)
			bulk, buf = nil, small
		}
	}
}

// receive sorts what comes until the stream ends, and says whether all had been
// said both ways by then.
func (c *carrying) receive() bool {
	for over := false; ; {
		t, length, err := wire.ReadPieceHeader(c.stream)
		switch {
		case err != nil:
			return over && c.said.Load()
		case t == wire.PieceTaken:
			n, err := wire.ReadTaken(c.stream)
			if err != nil {
				return false
			}
			c.out.Add(n)
		case over:
			return false
		case t == wire.PieceEnd:
			over = true
			c.in.end()
		case c.in.read(c.stream, length) != nil:
			return false
		}
	}
}

// take gives conn what has come until that has ended, and tells the other end.
func (c *carrying) take() error {
	for {
		b := c.in.take()
		if b == nil {
			return c.conn.CloseWrite()
		}
		err := c.pass(*b)
		c.relay.putQueue(b)
		if err != nil {
			c.in.breakOff()
			return err
		}
	}
}

func (c *carrying) pass(came []byte) error {
	for len(came) > 0 {
		n, err := c.conn.Write(came[:min(len(came), bulkBuffer)])
		if err != nil {
			return err
		}
		came = came[n:]
		if more := c.in.written(n); more > 0 {
			if err := wire.WriteTaken(c.stream, more); err != nil {
				return err
			}
		}
	}
	return nil
}

// get is a buffer for a bulk piece.
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

// getQueue is an empty buffer that may grow.
func (r *Relay) getQueue() *[]byte {
	if b, ok := r.queues.Get().(*[]byte); ok {
		return b
	}
	return new([]byte)
}

func (r *Relay) putQueue(b *[]byte) {
	*b = (*b)[:0]
	r.queues.Put(b)
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
