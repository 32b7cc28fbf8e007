package server_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
	"banger.dev/banger/internal/server/servertest"
)

// forever is an archive without an end.
type forever struct{}

func (forever) Read(p []byte) (int, error) { return len(p), nil }

// An archive of any length becomes an image; one that is refused is so before it
// has ended.
func TestImportImage(t *testing.T) {
	w := newWorld(t, &servertest.VMs{})
	s := httptest.NewServer(w.srv.Handler())
	defer s.Close()
	for _, route := range []string{api.RouteImageImport, api.RouteImageRegister} {
		reply, err := http.Post(s.URL+route+"?name=mine", "", strings.NewReader("whole"))
		if err != nil {
			t.Fatal(err)
		}
		var img banger.Image
		if err := json.NewDecoder(reply.Body).Decode(&img); err != nil || img.Name != "mine" || reply.StatusCode != 200 {
			t.Errorf("%+v, %v, %s", img, err, reply.Status)
		}
		_ = reply.Body.Close()
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, route := range []string{api.RouteImageImport, api.RouteImageRegister} {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+route+"?name=mine", forever{})
		if err != nil {
			t.Fatal(err)
		}
		reply, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if reply.StatusCode != 400 {
			t.Errorf("%s", reply.Status)
		}
		if said, err := io.ReadAll(io.LimitReader(reply.Body, 4096)); !strings.Contains(string(said), "no archive") {
			t.Errorf("%q, %v", said, err)
		}
	}
}

// A client that sends nothing does not keep the server from ending.
func TestImportEndsWithTheServer(t *testing.T) {
	w := newWorld(t, &servertest.VMs{})
	s := httptest.NewServer(w.srv.Handler())
	defer s.Close()
	archive, rest := io.Pipe() // on which nothing comes
	defer func() { _ = rest.Close() }()
	go func() {
		for n, _ := w.srv.Activity(); n == 0; n, _ = w.srv.Activity() {
			time.Sleep(time.Millisecond)
		}
		_ = w.srv.Shutdown(t.Context())
	}()
	reply, err := http.Post(s.URL+api.RouteImageImport+"?name=mine", "", archive)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reply.Body.Close() }()
	if said, err := io.ReadAll(io.LimitReader(reply.Body, 4096)); reply.StatusCode != 503 || !strings.Contains(string(said), "was stopped") {
		t.Errorf("%s, %q, %v", reply.Status, said, err)
	}
}
