package control

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
)

const (
	maxLine    = 4 << 10
	maxHeaders = 64
	maxBody    = 1 << 20
)

type request struct {
	method, path string
	body         []byte
	chunked      bool // the body is yet to be read, in chunks
	close        bool // the client wants no more on this connection
}

// statusError is a request that cannot be answered, nor what follows it be read.
type statusError struct {
	status  int
	message string
}

func (e *statusError) Error() string { return e.message }

type reader struct{ b *bufio.Reader }

func newReader(r io.Reader) reader { return reader{bufio.NewReaderSize(r, maxLine)} }

func (r reader) next() (request, error) {
	var req request
	line, err := r.line()
	if err != nil {
		return req, err
	}
	fields := strings.Fields(line)
	if len(fields) != 3 || !strings.HasPrefix(fields[2], "HTTP/1.") {
		return req, &statusError{400, "not a request of HTTP/1: " + strconv.Quote(line)}
	}
	req.method, req.path, req.close = fields[0], fields[1], fields[2] == "HTTP/1.0"
	length := 0
	for range maxHeaders {
		line, err := r.line()
		if err != nil {
			return req, err
		}
		if line == "" {
			req.body = make([]byte, length)
			_, err := io.ReadFull(r.b, req.body)
			return req, err
		}
		if err := req.header(line, &length); err != nil {
			return req, err
		}
	}
	return req, &statusError{431, "too many headers"}
}

func (req *request) header(line string, length *int) error {
	key, value, ok := strings.Cut(line, ":")
	if !ok {
		return &statusError{400, "not a header: " + strconv.Quote(line)}
	}
	value = strings.TrimSpace(value)
	switch strings.ToLower(key) {
	case "content-length":
		n, err := strconv.ParseUint(value, 10, 31)
		if err != nil || n > maxBody {
			return &statusError{413, "a body of " + value + " bytes"}
		}
		*length = int(n)
	case "transfer-encoding":
		if !strings.EqualFold(value, "chunked") {
			return &statusError{501, "Transfer-Encoding " + strconv.Quote(value) + " is not understood"}
		}
		req.chunked = true
	case "connection":
		req.close = req.close || strings.EqualFold(value, "close")
	}
	return nil
}

// line reads a line without its end, of at most maxLine bytes.
func (r reader) line() (string, error) {
	b, err := r.b.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return "", &statusError{431, "a line is too long"}
	}
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r"), nil
}

// reasons is for people who read along; programs read the number.
var reasons = map[int]string{200: "OK", 202: "Accepted", 404: "Not Found"}

func respond(conn net.Conn, status int, body any, last bool) error {
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	reason, ok := reasons[status]
	if !ok {
		reason = "Error"
	}
	head := fmt.Appendf(nil, "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n", status, reason, len(b)+1)
	if last {
		head = append(head, "Connection: close\r\n"...)
	}
	head = append(head, "\r\n"...)
	_, err = conn.Write(append(append(head, b...), '\n'))
	return err
}
