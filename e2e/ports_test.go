package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// program NAME VARIABLE: builds one of testdata/programs, its path in VARIABLE.
func program(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: program NAME VARIABLE")
	}
	ts.Setenv(args[1], buildProgram(ts, args[0]))
}

// freeport VARIABLE...: ports of 127.0.0.1 that nobody has.
func freePort(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: freeport VARIABLE...")
	}
	for _, name := range args {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		ts.Check(err)
		defer func() { _ = l.Close() }() // all of them at once, so that they differ
		ts.Setenv(name, strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	}
}

// talk tcp|udp ADDRESS FILE: sends the file, and what comes back is the same.
// ! talk: the connection is refused or reset, and does not hang.
func talk(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: talk tcp|udp ADDRESS FILE")
	}
	want := ts.ReadFile(args[2])
	got, err := say(args[0], args[1], want)
	switch {
	case neg && (err == nil || errors.Is(err, os.ErrDeadlineExceeded)):
		ts.Fatalf("%s: not refused (%v)", args[1], err)
	case !neg && (err != nil || got != want):
		ts.Fatalf("%s: %d bytes came back of %d (%v)", args[1], len(got), len(want), err)
	}
}

// many N ADDRESS FILE: as talk, N at once.
func many(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: many N ADDRESS FILE")
	}
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	want := ts.ReadFile(args[2])
	errs := make([]error, n)
	var clients sync.WaitGroup
	for i := range n {
		clients.Go(func() {
			got, err := say("tcp", args[1], want)
			if err == nil && got != want {
				err = fmt.Errorf("%d bytes came back of %d", len(got), len(want))
			}
			errs[i] = err
		})
	}
	clients.Wait()
	ts.Check(errors.Join(errs...))
}

func say(network, address, text string) (string, error) {
	conn, err := net.Dial(network, address)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(patience))
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return exchange(conn, text)
	}
	sent := make(chan error, 1)
	go func() {
		_, err := io.Copy(tcp, strings.NewReader(text))
		sent <- errors.Join(err, tcp.CloseWrite())
	}()
	got, err := io.ReadAll(tcp)
	if err != nil {
		_ = conn.Close()
		<-sent
		return string(got), err
	}
	return string(got), <-sent
}

// exchange repeats a datagram until it is answered, for one may be lost.
func exchange(conn net.Conn, text string) (string, error) {
	buf := make([]byte, 1<<16)
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if _, err = conn.Write([]byte(text)); err != nil {
			return "", err
		}
		_ = conn.SetReadDeadline(time.Now().Add(2 * time.Second))
		var n int
		if n, err = conn.Read(buf); err == nil {
			return string(buf[:n]), nil
		}
	}
	return "", err
}
