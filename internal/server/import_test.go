package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
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
		_ = errors.Join(w.ops.Shutdown(t.Context()), w.srv.Shutdown(t.Context()))
	}()
	reply, err := http.Post(s.URL+api.RouteImageImport+"?name=mine", "", archive)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reply.Body.Close() }()
	if said, err := io.ReadAll(io.LimitReader(reply.Body, 4096)); reply.StatusCode != 503 || !strings.Contains(string(said), "the daemon stops") {
		t.Errorf("%s, %q, %v", reply.Status, said, err)
	}
}

// imports are the operations that take an archive.
var imports = map[string]string{"image import": api.RouteImageImport, "image register": api.RouteImageRegister, "kernel import": api.RouteKernelImport}

// sending has begun to send an archive of which nothing comes, and is under way.
type sending struct {
	op      api.Operation
	leave   func()
	refusal chan string // what the daemon answers, if it is asked to the end
}

func (w *world) send(kind string) sending {
	w.t.Helper()
	ctx, leave := context.WithCancel(w.t.Context())
	archive, rest := io.Pipe()
	w.t.Cleanup(func() { leave(); _ = rest.Close() })
	s := sending{leave: leave, refusal: make(chan string, 1)}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.http.URL+imports[kind]+"?name=mine", archive)
	if err != nil {
		w.t.Fatal(err)
	}
	go func() {
		reply, err := w.http.Client().Do(r)
		if err != nil {
			s.refusal <- err.Error()
			return
		}
		said, _ := io.ReadAll(reply.Body)
		_ = reply.Body.Close()
		s.refusal <- reply.Status + " " + string(said)
	}()
	for s.op.Progress == nil {
		for _, op := range get[[]api.Operation](w, "GET", api.RouteOperations, "", 200) {
			if op.Kind == kind && op.Status == api.OperationRunning {
				s.op = op
			}
		}
		time.Sleep(time.Millisecond)
	}
	return s
}

// An import is an operation as any other: it is listed, told, and can be
// cancelled; without its client it ends by itself.
func TestImportsAreOperations(t *testing.T) {
	for kind, route := range imports {
		t.Run(kind, func(t *testing.T) {
			w := newWorld(t, &servertest.VMs{})
			s := w.send(kind)
			if s.op.Target != "mine" {
				t.Errorf("%+v", s.op)
			}
			get[api.Operation](w, "DELETE", "/v1/operations/"+s.op.ID, "", 200)
			if said := <-s.refusal; !strings.HasPrefix(said, "499 ") || !strings.Contains(said, kind+" mine was cancelled: it was asked to") {
				t.Errorf("%s", said)
			}
			s = w.send(kind)
			s.leave()
			if op := w.follow(s.op); op.Status != api.OperationCancelled || op.Error.Message != kind+" mine was cancelled: nobody waits for it any more" {
				t.Errorf("without its client: %+v", op)
			}
			told := len(w.tales())
			if code, _, text := w.do("POST", route+"?name=mine", "whole"); code != 200 {
				t.Errorf("%d %s", code, text)
			}
			if got := w.tales()[told:]; !slices.Equal(got, []string{"operation.started " + kind + " mine", "operation.done " + kind + " mine"}) {
				t.Errorf("%q", got)
			}
			all := get[[]api.Operation](w, "GET", api.RouteOperations, "", 200)
			if op := all[len(all)-1]; (op.Image == nil) != (kind == "kernel import") || (op.Kernel == nil) == (kind == "kernel import") || !op.Changed {
				t.Errorf("%+v", op)
			}
		})
	}
}
