package client

import (
	"bufio"
	"cmp"
	"context"
	"io"
	"net"
	"net/http"
)

// exchange sends req on conn, which it owns from here on, and returns the reply;
// closing the reply's body closes the connection. ctx, that of req, ends both.
//
// A request has a connection of its own and is written before the reply is read:
// on a connection that has waited, or that is read and written at a time, as a
// http.Transport's are, nobody knows what a daemon that ends has read. Only a
// stream, which is sent once in any case, is written meanwhile.
func exchange(ctx context.Context, conn net.Conn, req *http.Request, stream bool) (*http.Response, error) {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	ask := writeAndRead
	if stream {
		ask = feedAndRead
	}
	reply, err := ask(conn, req)
	if err != nil {
		stop()
		_ = conn.Close()
		return nil, err
	}
	reply.Body = &replyBody{ReadCloser: reply.Body, conn: conn, stop: stop}
	return reply, nil
}

func writeAndRead(conn net.Conn, req *http.Request) (*http.Response, error) {
	out := &writing{conn: conn}
	_ = req.Write(out) // what it says of a body is not what the connection has said
	// A daemon that has heard enough answers, and closes before it has read all.
	reply, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		return nil, cmp.Or(out.err, err)
	}
	return reply, nil
}

// feedAndRead does not wait for the body, which may be a stdin of which nothing
// comes: what is left of it when there is a reply, or the connection has ended,
// is left behind, and what a Read of it still takes is lost.
func feedAndRead(conn net.Conn, req *http.Request) (*http.Response, error) {
	unreadable := make(chan error, 1)
	go func() {
		out := &writing{conn: conn}
		if err := req.Write(out); err != nil && out.err == nil {
			unreadable <- err
			_ = conn.Close()
		}
	}()
	reply, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		select {
		case err = <-unreadable:
		default:
		}
		return nil, err
	}
	return reply, nil
}

// writing knows why its connection cannot be written to, which is not to be told
// from a body that cannot be read by what net/http says.
type writing struct {
	conn net.Conn
	err  error
}

func (w *writing) Write(p []byte) (int, error) {
	n, err := w.conn.Write(p)
	w.err = cmp.Or(w.err, err)
	return n, err
}

// replyBody is the body of a reply with its connection.
type replyBody struct {
	io.ReadCloser
	conn net.Conn
	stop func() bool
}

// Close does not read the rest, which may be a stream without end.
func (b *replyBody) Close() error {
	b.stop()
	return b.conn.Close()
}
