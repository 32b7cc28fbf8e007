package control

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"

	"banger.dev/banger/internal/agent/wire"
)

// stream is the body of a request, whether it has been read or not.
func (req request) stream(conn *bufio.Reader) io.Reader {
	if req.chunked {
		return &chunks{r: conn}
	}
	return bytes.NewReader(req.body)
}

// serveStream has handle answer, which ends the connection: the rest of the
// body may never be read.
func serveStream(conn net.Conn, body io.Reader, handle func(io.Reader, io.Writer) error) {
	out := &chunkWriter{conn: conn}
	err := handle(body, out)
	if err != nil && !out.begun {
		failure := asFileError(err)
		_ = respond(conn, statusOf(failure.Kind), failure, true)
		return
	}
	_ = out.end(err)
}

func asFileError(err error) *wire.FileError {
	var failure *wire.FileError
	if errors.As(err, &failure) {
		return failure
	}
	return &wire.FileError{Message: err.Error()}
}

func statusOf(kind string) int {
	switch kind {
	case "not_found":
		return 404
	case "invalid":
		return 400
	case "conflict":
		return 409
	}
	return 500
}

// chunkWriter writes an answer in chunks, a head before the first.
type chunkWriter struct {
	conn  net.Conn
	begun bool
	frame []byte
}

const streamHead = "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n" +
	"Trailer: " + wire.HeaderError + "\r\nConnection: close\r\n\r\n"

func (w *chunkWriter) begin() {
	if !w.begun {
		w.begun = true
		w.frame = append(w.frame, streamHead...)
	}
}

// Write makes one write of a chunk: each costs an exit from the guest.
func (w *chunkWriter) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	w.frame = w.frame[:0]
	w.begin()
	w.frame = fmt.Appendf(w.frame, "%x\r\n", len(p))
	w.frame = append(append(w.frame, p...), "\r\n"...)
	if _, err := w.conn.Write(w.frame); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (w *chunkWriter) end(failed error) error {
	w.frame = w.frame[:0]
	w.begin()
	w.frame = append(w.frame, "0\r\n"...)
	if failed != nil {
		b, err := json.Marshal(asFileError(failed))
		if err != nil {
			return err
		}
		w.frame = fmt.Appendf(w.frame, "%s: %s\r\n", wire.HeaderError, b)
	}
	w.frame = append(w.frame, "\r\n"...)
	_, err := w.conn.Write(w.frame)
	return err
}

// chunks reads a body that comes in chunks. Trailers are passed over.
type chunks struct {
	r    *bufio.Reader
	left int64 // of the present chunk
	some bool  // a chunk has been read
	err  error
}

func (c *chunks) Read(p []byte) (int, error) {
	for c.left == 0 {
		if c.err == nil {
			c.err = c.next()
		}
		if c.err != nil {
			return 0, c.err
		}
	}
	n, err := c.r.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	if err != nil {
		c.err = noEOF(err)
	}
	return n, c.err
}

// next reads the head of a chunk; io.EOF is the last one.
func (c *chunks) next() error {
	lines := reader{c.r}
	if c.some {
		end, err := lines.line()
		if err != nil {
			return noEOF(err)
		}
		if end != "" {
			return errors.New("a chunk is longer than it says")
		}
	}
	head, err := lines.line()
	if err != nil {
		return noEOF(err)
	}
	size, _, _ := strings.Cut(head, ";")
	n, err := strconv.ParseUint(strings.TrimSpace(size), 16, 62)
	if err != nil {
		return fmt.Errorf("%.40q is no chunk", head)
	}
	c.left, c.some = int64(n), true
	if n > 0 {
		return nil
	}
	for range maxHeaders {
		line, err := lines.line()
		if err != nil {
			return noEOF(err)
		}
		if line == "" {
			return io.EOF
		}
	}
	return errors.New("too many trailers")
}

// noEOF makes an end in the middle of a body an error.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
