package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"

	"github.com/rogpeppe/go-internal/testscript"
)

// ask METHOD PATH: asks the daemon; the reply's body is stdout, whatever its status.
func ask(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: ask METHOD PATH")
	}
	socket := filepath.Join(homeOf(ts).dir, "run", "bangerd.sock")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	req, err := http.NewRequestWithContext(context.Background(), args[0], "http://bangerd"+args[1], http.NoBody)
	ts.Check(err)
	reply, err := client.Do(req)
	ts.Check(err)
	defer reply.Body.Close()
	_, err = io.Copy(ts.Stdout(), reply.Body)
	ts.Check(err)
}

// until FILE PATTERN [N]: waits until N (1) lines of the file match.
func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: until FILE PATTERN [N]")
	}
	want := 1
	if len(args) == 3 {
		n, err := strconv.Atoi(args[2])
		ts.Check(err)
		want = n
	}
	pattern := regexp.MustCompile(args[1])
	path := ts.MkAbs(args[0])
	ts.Check(eventually(func() error {
		content, err := os.ReadFile(path)
		if got := len(pattern.FindAll(content, -1)); err == nil && got < want {
			err = fmt.Errorf("%d of %d times %s in %s", got, want, args[1], content)
		}
		return err
	}))
}
