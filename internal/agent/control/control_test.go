package control

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"banger.dev/banger/internal/agent/wire"
)

func talk(t *testing.T, send string) []*http.Response {
	t.Helper()
	s := &Server{
		Hello:    func() wire.Hello { return wire.Hello{Protocol: 1} },
		Init:     func() wire.InitStatus { return wire.InitStatus{} },
		Shutdown: func() error { return errors.New("it will not") },
		Grow: func(bytes uint64) error {
			if bytes != 4096 {
				return errors.New("it has no such disk")
			}
			return nil
		},
		Asks: map[string]func() (any, error){
			"/asked": func() (any, error) { return "this", nil }, "/broken": func() (any, error) { return nil, errors.New("no") },
		},
		Streams: map[string]func(io.Reader, io.Writer) error{
			"/echo":  func(in io.Reader, out io.Writer) error { _, err := io.Copy(out, in); return err },
			"/fails": func(io.Reader, io.Writer) error { return &wire.FileError{Kind: "conflict", Message: "no"} },
		},
	}
	client, server := net.Pipe()
	go s.Serve(server)
	go func() { _, _ = io.WriteString(client, send) }()
	r := bufio.NewReader(client)
	var all []*http.Response
	for range strings.Count(send, " HTTP/1.") {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			break
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		all = append(all, resp)
		if resp.Close {
			break
		}
	}
	_ = client.Close()
	return all
}

func TestStatus(t *testing.T) {
	for send, want := range map[string]int{
		"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n":                             200,
		"GET /hello HTTP/1.0\r\n\r\n":                                        200,
		"GET /hello HTTP/1.1\n\n":                                            200,
		"POST /hello HTTP/1.1\r\n\r\n":                                       404,
		"GET /nothing HTTP/1.1\r\n\r\n":                                      404,
		"POST /shutdown HTTP/1.1\r\n\r\n":                                    500,
		"GET /clock HTTP/1.1\r\n\r\n":                                        200,
		"GET /asked HTTP/1.1\r\n\r\n":                                        200,
		"GET /broken HTTP/1.1\r\n\r\n":                                       500,
		"POST /clock HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}":                400,
		"POST /grow HTTP/1.1\r\nContent-Length: 14\r\n\r\n{\"bytes\":4096}":  200,
		"POST /grow HTTP/1.1\r\nContent-Length: 11\r\n\r\n{\"bytes\":1}":     500,
		"POST /grow HTTP/1.1\r\nContent-Length: 12\r\n\r\n{\"bytes\":-1}":    400,
		"POST /clock HTTP/1.1\r\nContent-Length: -2\r\n\r\n{}":               413,
		"POST /clock HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n":           413,
		"POST /clock HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n":         501,
		"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n":    500,
		"POST /echo HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n":             501,
		"POST /fails HTTP/1.1\r\n\r\n":                                       409,
		"GET / HTTP/1.1\r\nnonsense\r\n\r\n":                                 400,
		"GET / HTTP/1.1\r\nA: " + strings.Repeat("x", maxLine) + "\r\n\r\n":  431,
		"GET / HTTP/1.1\r\n" + strings.Repeat("A: b\r\n", maxHeaders) + "\r": 431,
	} {
		got := talk(t, send)
		if len(got) != 1 || got[0].StatusCode != want {
			t.Errorf("%.60q: %d answers, want one with %d", send, len(got), want)
		}
	}
}

func TestAConnectionIsKept(t *testing.T) {
	const one = "GET /hello HTTP/1.1\r\n\r\n"
	if got := talk(t, one+one+one); len(got) != 3 {
		t.Errorf("%d answers of 3", len(got))
	}
	if got := talk(t, "GET /hello HTTP/1.1\r\nConnection: close\r\n\r\n"+one); len(got) != 1 {
		t.Errorf("%d answers after close", len(got))
	}
}

func TestStreams(t *testing.T) {
	for name, test := range map[string]struct{ send, body, trailer string }{
		"chunks":         {"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n1\r\n!\r\n0\r\nA: b\r\n\r\n", "hello!", ""},
		"a length":       {"POST /echo HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", "hello", ""},
		"nothing":        {"POST /echo HTTP/1.1\r\n\r\n", "", ""},
		"a broken chunk": {"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloworld\r\n", "hello", "longer than it says"},
		"a late failure": {"POST /breaks HTTP/1.1\r\n\r\n", "half", `and then\nno more`},
	} {
		t.Run(name, func(t *testing.T) {
			s := &Server{Streams: map[string]func(io.Reader, io.Writer) error{}}
			client, server := net.Pipe()
			go func() { _, _ = io.WriteString(client, test.send) }()
			s.Streams["/echo"] = func(in io.Reader, out io.Writer) error { _, err := io.Copy(out, in); return err }
			s.Streams["/breaks"] = func(_ io.Reader, out io.Writer) error {
				_, _ = io.WriteString(out, "half")
				return errors.New("and then\nno more")
			}
			go s.Serve(server)
			resp, err := http.ReadResponse(bufio.NewReader(client), nil)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			_ = client.Close()
			if string(body) != test.body || err != nil || !strings.Contains(resp.Trailer.Get(wire.HeaderError), test.trailer) {
				t.Errorf("%q, %v, %v", body, err, resp.Trailer)
			}
		})
	}
}

// FuzzRequest: nothing that a client sends makes the reader panic or take more
// than it may.
func FuzzRequest(f *testing.F) {
	f.Add([]byte("GET /hello HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"))
	f.Add([]byte("GET  HTTP/1.1\n\n"))
	f.Add([]byte("A B HTTP/1.1\r\n:\r\nContent-Length:\r\n\r\n"))
	f.Fuzz(func(t *testing.T, input []byte) {
		r := newReader(strings.NewReader(string(input)))
		for {
			req, err := r.next()
			if err != nil {
				return
			}
			if len(req.body) > maxBody || req.method == "" || req.path == "" {
				t.Fatalf("%+v", req)
			}
		}
	})
}
