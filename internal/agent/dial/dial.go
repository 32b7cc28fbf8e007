// Package dial is the dial port: for each stream it connects to a server in the
// guest, over TCP or UDP, and carries the bytes. It is how published ports reach
// a guest, which needs no network card for it. Like the exec port it serves any
// net.Conn on any Linux.
package dial

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"banger.dev/banger/internal/agent/relay"
	"banger.dev/banger/internal/agent/wire"
)

// Server carries connections. The zero value is ready. It is safe for
// concurrent use.
type Server struct{ relay relay.Relay }

// Serve makes the one connection that conn asks for, carries it, and closes conn.
func (s *Server) Serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	req, err := wire.ReadDial[wire.DialRequest](conn)
	if err != nil {
		_ = wire.WriteDial(conn, wire.DialAnswer{Error: err.Error()})
		return
	}
	switch {
	case req.Port == 0:
		err = errors.New("no port was asked for")
	case req.Network == "tcp":
		err = s.tcp(relay.Stream{Conn: conn, Window: max(req.Window, 0)}, int(req.Port))
	case req.Network == "udp":
		err = s.udp(conn, int(req.Port))
	default:
		err = fmt.Errorf("the agent cannot dial %.20q", req.Network)
	}
	if err != nil {
		_ = wire.WriteDial(conn, wire.DialAnswer{Error: err.Error()})
	}
}

// tcp connects to the first candidate that listens. Its error means that conn
// has not been answered.
func (s *Server) tcp(conn relay.Stream, port int) error {
	var answer wire.DialAnswer
	if conn.Window > 0 {
		answer.Window = relay.Window
	}
	var first error
	for _, ip := range candidates() {
		server, err := net.DialTCP("tcp", nil, &net.TCPAddr{IP: ip, Port: port})
		if err != nil {
			if first == nil { // says most: nothing listens on 127.0.0.1
				first = err
			}
			continue
		}
		if err := wire.WriteDial(conn, answer); err != nil {
			_ = server.Close()
			return nil
		}
		s.relay.TCP(server, conn)
		return nil
	}
	return first
}

// candidates are where a server of the guest may listen, the likely ones first.
func candidates() []net.IP {
	ips := []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return ips
	}
	for _, addr := range own {
		if n, ok := addr.(*net.IPNet); ok && !n.IP.IsLoopback() && !n.IP.IsLinkLocalUnicast() {
			ips = append(ips, n.IP)
		}
	}
	return ips
}

// udp carries one flow of datagrams. A connect says nothing of a server, a
// refusal does: it moves the flow to the next candidate, as long as nothing was
// ever heard from this one.
func (s *Server) udp(conn net.Conn, port int) error {
	f := &flow{candidates: candidates(), port: port}
	if err := f.next(); err != nil {
		return err
	}
	defer f.close()
	if err := wire.WriteDial(conn, wire.DialAnswer{}); err != nil {
		return nil
	}
	go f.replies(conn)
	buf := make([]byte, wire.MaxPiece)
	for {
		n, err := relay.ReceiveDatagram(conn, buf)
		if err != nil {
			return nil
		}
		f.send(buf[:n])
	}
}

// flow is the guest's end of one UDP flow.
type flow struct {
	candidates []net.IP
	port       int

	mu     sync.Mutex
	server *net.UDPConn
	last   []byte // the last datagram sent, until there is an answer
	heard  bool
	closed bool
}

var errNoServer = errors.New("nothing listens")

// next connects to the next candidate and sends it what the last one refused.
func (f *flow) next() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for !f.closed && len(f.candidates) > 0 {
		ip := f.candidates[0]
		f.candidates = f.candidates[1:]
		server, err := net.DialUDP("udp", nil, &net.UDPAddr{IP: ip, Port: f.port})
		if err != nil {
			continue
		}
		if f.server != nil {
			_ = f.server.Close()
		}
		f.server = server
		if f.last != nil {
			_, _ = server.Write(f.last)
		}
		return nil
	}
	return errNoServer
}

func (f *flow) send(datagram []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.heard {
		f.last = append(f.last[:0], datagram...)
	}
	_, _ = f.server.Write(datagram) // datagrams may be lost
}

func (f *flow) current() *net.UDPConn {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.server
}

func (f *flow) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	_ = f.server.Close()
}

// refusedPause keeps a flow to nobody from turning round at full speed.
const refusedPause = 10 * time.Millisecond

// replies sends the host what the server says until the flow ends.
func (f *flow) replies(conn net.Conn) {
	buf := make([]byte, wire.PieceHeaderSize+wire.MaxPiece)
	for {
		server := f.current()
		n, err := server.Read(buf[wire.PieceHeaderSize:])
		switch {
		case err == nil:
			f.mu.Lock()
			f.heard, f.last = true, nil
			f.mu.Unlock()
			if relay.SendDatagram(conn, buf[:wire.PieceHeaderSize+n]) != nil {
				return
			}
		case !errors.Is(err, syscall.ECONNREFUSED):
			return
		case !f.wasHeard() && f.next() != nil:
			relay.Close(conn) // nobody listens anywhere: the host may try anew
			return
		default:
			time.Sleep(refusedPause)
		}
	}
}

func (f *flow) wasHeard() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.heard
}
