package guest_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"banger.dev/banger/internal/agent/dial"
	"banger.dev/banger/internal/guest"
)

// toThisHost opens streams to an agent's dial port that is not in a guest.
func toThisHost(_ context.Context, _ uint32) (net.Conn, error) {
	ours, agents := net.Pipe()
	go (&dial.Server{}).Serve(agents)
	return ours, nil
}

func portOf(t *testing.T, address net.Addr) int {
	t.Helper()
	tcp, ok := address.(*net.TCPAddr)
	if !ok {
		t.Fatalf("%v", address)
	}
	return tcp.Port
}

// saying is a server that says words to whoever comes.
func saying(t *testing.T, words string) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, words)
			_, _ = io.Copy(io.Discard, conn)
			_ = conn.Close()
		}
	}()
	return portOf(t, l.Addr())
}

func TestScheme(t *testing.T) {
	page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodHead {
			t.Errorf("asked with %s", r.Method)
		}
	})
	plain := httptest.NewServer(page)
	defer plain.Close()
	secure := httptest.NewUnstartedServer(page)
	secure.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	secure.StartTLS()
	defer secure.Close()
	refuses := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) }))
	defer refuses.Close()
	for name, c := range map[string]struct {
		port int
		want string
	}{
		"http":    {portOf(t, plain.Listener.Addr()), "http"},
		"https":   {portOf(t, secure.Listener.Addr()), "https"},
		"refuses": {portOf(t, refuses.Listener.Addr()), "http"},
		"ssh":     {saying(t, "SSH-2.0-OpenSSH_9.2p1 and more\r\n"), ""},
		"nobody":  {1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if got := guest.Scheme(ctx, toThisHost, c.port); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

// A server that says nothing, or never stops, holds nobody up.
func TestSchemeOfTheSilent(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	for _, port := range []int{saying(t, ""), saying(t, fmt.Sprintf("%010000d", 0))} {
		if got := guest.Scheme(ctx, toThisHost, port); got != "" {
			t.Errorf("%q", got)
		}
	}
}
