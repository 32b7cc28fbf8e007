package guest

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"banger.dev/banger/internal/agent/relay"
	"banger.dev/banger/internal/agent/wire"
)

// Scheme says whether the TCP server on a port of the guest speaks HTTP: http,
// https, or "" if it does not or says nothing before ctx ends. It sends the
// server at most two requests for no more than the head of its first page.
func Scheme(ctx context.Context, open func(ctx context.Context, port uint32) (net.Conn, error), port int) string {
	plain := answer(ctx, open, port, func(conn net.Conn) net.Conn { return conn })
	if plain != "" && plain != "400" {
		return "http"
	}
	// Silence, or what a server of HTTPS says to HTTP.
	secure := answer(ctx, open, port, func(conn net.Conn) net.Conn {
		return tls.Client(conn, &tls.Config{InsecureSkipVerify: true}) // whoever it is, the question is what he speaks
	})
	switch {
	case secure != "":
		return "https"
	case plain != "":
		return "http"
	}
	return ""
}

// answer is the status that a server gives, such as 200; "" if it speaks no HTTP.
func answer(ctx context.Context, open func(ctx context.Context, port uint32) (net.Conn, error), port int, over func(net.Conn) net.Conn) string {
	stream, err := DialPort(ctx, open, wire.DialRequest{Network: "tcp", Port: uint16(port)})
	if err != nil {
		return ""
	}
	defer relay.Close(stream)
	defer context.AfterFunc(ctx, func() { _ = stream.SetDeadline(time.Unix(1, 0)) })()
	conn := over(&pieces{Conn: stream})
	if _, err := fmt.Fprintf(conn, "HEAD / HTTP/1.1\r\nHost: localhost:%d\r\nUser-Agent: banger\r\nConnection: close\r\n\r\n", port); err != nil {
		return ""
	}
	var head [len("HTTP/1.1 200")]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil || !bytes.HasPrefix(head[:], []byte("HTTP/")) {
		return ""
	}
	return string(head[len(head)-3:])
}

// pieces is a connection to a server in the guest, as DialPort gives it, without
// its framing.
type pieces struct {
	net.Conn
	left int // of the piece that is being read
}

func (p *pieces) Read(b []byte) (int, error) {
	for p.left == 0 {
		t, length, err := wire.ReadPieceHeader(p.Conn)
		if err != nil {
			return 0, err
		}
		if t == wire.PieceEnd {
			return 0, io.EOF
		}
		p.left = length
	}
	n, err := p.Conn.Read(b[:min(len(b), p.left)])
	p.left -= n
	return n, err
}

// Write sends b as one piece; what is said here is short.
func (p *pieces) Write(b []byte) (int, error) {
	if len(b) > wire.MaxPiece {
		return 0, errors.New("longer than a piece")
	}
	err := wire.WritePiece(p.Conn, wire.PieceData, append(make([]byte, wire.PieceHeaderSize), b...))
	return len(b), err
}
