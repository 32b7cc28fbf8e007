package client

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"testing"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
	"banger.dev/banger/internal/ipc"
	"banger.dev/banger/internal/version"
)

func TestVerbs(t *testing.T) {
	c := newHome(t, "serve").connect()
	ctx := t.Context()
	if vms, err := c.ListVMs(ctx); err != nil || vms == nil || len(vms) != 0 {
		t.Errorf("%v, %v", vms, err)
	}
	var stages []string
	report := func(p banger.Progress) { stages = append(stages, p.Stage) }
	op, err := c.CreateVM(ctx, api.CreateRequest{Name: "box", Leash: true}, report)
	if err != nil || op.Status != api.OperationDone || op.Result.Name != "box" || op.Result.State != banger.StateStopped {
		t.Fatalf("%+v, %v", op, err)
	}
	op, err = c.StartVM(ctx, "box", api.StartRequest{Wait: "init"}, nil)
	if err != nil || !op.Changed || op.Result.State != banger.StateRunning {
		t.Errorf("%+v, %v", op, err)
	}
	if vm, err := c.ShowVM(ctx, op.Result.ID); err != nil || vm.Handles == nil || vm.Handles.PID != 1234 {
		t.Errorf("%+v, %v", vm, err)
	}
	_, err = c.DeleteVM(ctx, "box", false)
	wantError(t, err, banger.KindConflict, "is running", "banger vm delete --force box")
	if r, err := c.StopVM(ctx, "box", api.StopRequest{TimeoutMS: 2500}); err != nil || !r.Changed || r.Note != "2.5s" {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := c.KillVM(ctx, "box"); err != nil || r.Changed {
		t.Errorf("%+v, %v", r, err)
	}
	console, err := c.LogsVM(ctx, "box", LogOptions{Tail: -1})
	if err != nil {
		t.Fatal(err)
	}
	first, err := console.Next()
	if console.Close(); err != nil || string(first) != "booting\n" || console.VM != op.Result.ID {
		t.Errorf("%q of %s, %v", first, console.VM, err)
	}
	console, err = c.LogsVM(ctx, "box", LogOptions{Tail: -1, After: console.After})
	if err != nil {
		t.Fatal(err)
	}
	second, err := console.Next()
	if _, end := console.Next(); err != nil || string(second) != "ready\n" || end != io.EOF {
		t.Errorf("%q, %v, %v", second, err, end)
	}
	console.Close()
	if vms, err := c.ListVMs(ctx); err != nil || len(vms) != 1 {
		t.Errorf("%v, %v", vms, err)
	}
	if r, err := c.DeleteVM(ctx, "box", true); err != nil || !r.Changed {
		t.Errorf("%+v, %v", r, err)
	}
	for _, s := range stages { // a fast one may be over before it is watched
		if s != "pull image" {
			t.Errorf("stage %q", s)
		}
	}
}

// Errors keep their kind, message and next command on the way.
func TestErrors(t *testing.T) {
	c := newHome(t, "serve").connect()
	ctx := t.Context()
	if _, err := c.CreateVM(ctx, api.CreateRequest{Name: "box"}, nil); err != nil {
		t.Fatal(err)
	}
	_, err := c.CreateVM(ctx, api.CreateRequest{Name: "box"}, nil)
	wantError(t, err, banger.KindConflict, "exists already", "banger vm delete box")
	_, err = c.CreateVM(ctx, api.CreateRequest{Spec: banger.Spec{VCPUs: -1}}, nil)
	wantError(t, err, banger.KindInvalid, "--vcpus", "")
	op, err := c.CreateVM(ctx, api.CreateRequest{Spec: banger.Spec{Image: "absent"}}, nil)
	wantError(t, err, banger.KindNotFound, "no image", "banger image list")
	if op.Status != api.OperationFailed {
		t.Errorf("%+v", op)
	}
	_, err = c.StartVM(ctx, "nothing", api.StartRequest{}, nil)
	wantError(t, err, banger.KindNotFound, "nothing", "banger vm list")
	_, err = c.LogsVM(ctx, "nothing", LogOptions{Tail: -1})
	wantError(t, err, banger.KindNotFound, "nothing", "banger vm list")
	for _, ref := range []string{"", ".", "..", "../vms", "a/b", "a b", "%2e%2e", "é", "x?force=true", "#", "\x00", "\n"} {
		_, err := c.DeleteVM(ctx, ref, true)
		wantError(t, err, banger.KindNotFound, fmt.Sprintf("no VM named %q", ref), "banger vm list")
	}
	if vms, err := c.ListVMs(ctx); err != nil || len(vms) != 1 {
		t.Errorf("%v, %v", vms, err)
	}
}

// reported is a ProgressFunc that tells of the first report.
func reported() (banger.ProgressFunc, <-chan struct{}) {
	seen := make(chan struct{})
	first := true
	return func(banger.Progress) {
		if first {
			close(seen)
		}
		first = false
	}, seen
}

func TestDaemonDiesDuringOperation(t *testing.T) {
	h := newHome(t, "hold")
	c := h.connect()
	report, seen := reported()
	failed := make(chan error)
	go func() {
		_, err := c.CreateVM(t.Context(), api.CreateRequest{Name: "box", Leash: true}, report)
		failed <- err
	}()
	<-seen
	kill(t, h.connect())
	wantError(t, <-failed, banger.KindUnavailable, "the daemon ended while create box", "banger daemon logs")
	if _, err := c.ListVMs(t.Context()); err != nil {
		t.Errorf("the next daemon is not asked: %v", err)
	}
}

func TestInterruptedOperation(t *testing.T) {
	h := newHome(t, "hold")
	c := h.connect()
	for _, leash := range []bool{true, false} {
		ctx, cancel := context.WithCancel(t.Context())
		report, seen := reported()
		go func() {
			<-seen
			cancel()
		}()
		op, err := c.CreateVM(ctx, api.CreateRequest{Name: "box", Leash: leash}, report)
		now, lookErr := ask[api.Operation](t.Context(), c, request{method: "GET", path: operationPath(api.RouteOperation, op.ID)})
		if lookErr != nil {
			t.Fatal(lookErr)
		}
		if leash {
			wantError(t, err, banger.KindCancelled, "create box was cancelled", "")
			if now.Status != api.OperationCancelled {
				t.Errorf("on a leash: %+v", now)
			}
		} else {
			wantError(t, err, banger.KindCancelled, "create box goes on", "banger vm list")
			if now.Status != api.OperationRunning {
				t.Errorf("without: %+v", now)
			}
		}
	}
}

func TestInterruptedRequest(t *testing.T) {
	c := newHome(t, "serve").connect()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := c.ListVMs(ctx)
	wantError(t, err, banger.KindCancelled, "interrupted", "")
}

// foreign is a daemon that is not of this build, or no daemon at all.
func foreign(t *testing.T, h *home, header http.Header, ping string, stopped chan<- struct{}) {
	t.Helper()
	if err := ipc.PrivateDir(h.layout.Run); err != nil {
		t.Fatal(err)
	}
	l, err := ipc.Listen(h.layout.DaemonSocket())
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, values := range header {
			w.Header()[http.CanonicalHeaderKey(name)] = slices.Clone(values)
		}
		if r.URL.Path == api.RouteDaemonStop {
			w.WriteHeader(http.StatusAccepted)
			close(stopped)
			return
		}
		fmt.Fprintln(w, ping)
	})}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() {
		srv.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
}

// A daemon with another interface, or none, is told from ours before it is asked.
func TestVersionSkew(t *testing.T) {
	h := newHome(t, "serve")
	stopped := make(chan struct{})
	foreign(t, h, http.Header{api.HeaderAPI: {"2"}, api.HeaderVersion: {"v7.7"}}, `{"api":2,"version":"v7.7"}`, stopped)
	_, err := Connect(t.Context(), h.layout, h.auto)
	wantError(t, err, banger.KindUnavailable, "the daemon (v7.7) is newer than this banger", "banger daemon stop")
	c, err := Connect(t.Context(), h.layout, Autostart{Disabled: true})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.ListVMs(t.Context())
	wantError(t, err, banger.KindUnavailable, "the daemon (v7.7) speaks version 2", "upgrade banger")
	if ping, err := c.Ping(t.Context()); err != nil || ping.Version != "v7.7" {
		t.Errorf("Ping: %+v, %v", ping, err)
	}
	// It holds no lock, so it has ended at once.
	if err := errors.Join(mkdirState(h), c.StopDaemon(t.Context())); err != nil {
		t.Error(err)
	}
	<-stopped
}

func TestNotADaemon(t *testing.T) {
	h := newHome(t, "serve")
	foreign(t, h, nil, "hello", nil)
	_, err := Connect(t.Context(), h.layout, h.auto)
	wantError(t, err, banger.KindUnavailable, "is not banger's daemon", "rm")
}

func TestCompare(t *testing.T) {
	own := Autostart{Build: version.Build{Release: "1.2.0", Time: 100}}
	for _, c := range []struct {
		ping  api.Ping
		order int
	}{
		{api.Ping{API: api.Version, Build: own.Build}, 0},
		{api.Ping{API: api.Version}, 0},
		{api.Ping{API: api.Version - 1, Build: version.Build{Release: "9.0.0"}}, -1},
		{api.Ping{API: api.Version + 1, Build: version.Build{Release: "0.1.0"}}, 1},
		{api.Ping{API: api.Version, Build: version.Build{Release: "1.1.9", Time: 500}}, -1},
		{api.Ping{API: api.Version, Build: version.Build{Release: "dev", Time: 500}}, 1},
		{api.Ping{API: api.Version, Build: version.Build{Release: "dev"}}, 0},
	} {
		err := own.compare(c.ping)
		if errors.Is(err, errOlder) != (c.order < 0) || (err == nil) != (c.order == 0) {
			t.Errorf("%+v: %v", c.ping, err)
		}
	}
}

// hearing is a daemon that hears what read takes of a connection and dies.
func hearing(t *testing.T, read func(net.Conn)) net.Conn {
	t.Helper()
	l, err := ipc.Listen(filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := ipc.Dial(t.Context(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	heard, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		read(heard)
		heard.Close()
	}()
	return conn
}

// What a daemon has read before it died is not sent to the next one; what it has
// not is.
func TestReadBeforeItDied(t *testing.T) {
	for name, c := range map[string]struct {
		read  func(net.Conn)
		again bool
	}{
		"all":  {func(conn net.Conn) { http.ReadRequest(bufio.NewReader(conn)) }, false},
		"some": {func(conn net.Conn) { conn.Read(make([]byte, 3)) }, true},
		"none": {func(net.Conn) {}, true},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, "http://bangerd/", nil)
		if err != nil {
			t.Fatal(err)
		}
		reply, err := exchange(t.Context(), hearing(t, c.read), req, false)
		if err == nil {
			reply.Body.Close()
		}
		if err == nil || unheard(err) != c.again {
			t.Errorf("a daemon that has read %s of it: %v", name, err)
		}
	}
}

// A reply that comes before all was read is the reply.
func TestEarlyReply(t *testing.T) {
	conn := hearing(t, func(conn net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
			t.Error(err)
		}
		io.WriteString(conn, "HTTP/1.1 409 Conflict\r\nContent-Length: 0\r\n\r\n")
	})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://bangerd/", bytes.NewReader(make([]byte, 16<<20)))
	if err != nil {
		t.Fatal(err)
	}
	reply, err := exchange(t.Context(), conn, req, true)
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	if reply.StatusCode != http.StatusConflict {
		t.Errorf("%s", reply.Status)
	}
}
