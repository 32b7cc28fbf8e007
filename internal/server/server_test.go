package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
	"banger.dev/banger/internal/operation"
	"banger.dev/banger/internal/request"
	"banger.dev/banger/internal/server"
	"banger.dev/banger/internal/server/servertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a server that listens, and what is behind it.
type world struct {
	t    *testing.T
	vms  *servertest.VMs
	ops  *operation.Registry[server.Result]
	srv  *server.Server
	http *httptest.Server

	events  *servertest.Events
	metrics *servertest.Metrics
	log     *logBuffer
	stop    chan struct{} // closed when a client has asked to stop
}

// logBuffer is written to by many goroutines.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// images and kernels are what is in every world's cache.
var (
	images = servertest.Images{{
		Name: "debian", Digest: "sha256:1", Source: "Debian", RootFS: "/c/rootfs.ext4", Size: 1, Architecture: "amd64", Init: "/sbin/init",
		Env: []string{"A=b"}, Workdir: "/w", User: "u", Entrypoint: []string{"e"}, Cmd: []string{"c"}, Kernel: "k",
	}}
	kernels = servertest.Kernels{
		{Name: "debian-trixie", Default: true, Digest: servertest.KernelDigest, SourceDigest: "sha256:3", Release: "6.1.0", Source: "Debian", VMLinux: "/c/vmlinux", Initramfs: "/c/i", Modules: "/c/m"},
	}
	taken  = servertest.Space{{Kind: "vm", Name: "box", Path: "/s/vms/1", Bytes: 5, Parts: map[string]banger.Bytes{"system": 5}}}
	strays = servertest.Doctor{{Kind: banger.StrayDirectory, What: "/s/vms/1", Reason: "no row", Bytes: 1, Error: "in use", Next: "rm -r /s/vms/1"}}
)

func newWorld(t *testing.T, vms *servertest.VMs) *world {
	t.Helper()
	w := &world{t: t, vms: vms, events: &servertest.Events{}, metrics: &servertest.Metrics{}, log: &logBuffer{}, stop: make(chan struct{})}
	log := slog.New(request.LogHandler(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	w.ops = operation.New[server.Result](log)
	w.srv = server.New(server.Config{
		VMs: vms, Images: images, Kernels: kernels, Doctor: strays, Space: taken, Operations: w.ops,
		Events: w.events, Metrics: w.metrics, Stop: func() { close(w.stop) },
		Version: "v9-test", PID: 4321, Since: time.Date(2025, 1, 2, 3, 4, 5, 0, time.UTC), Log: log,
	})
	w.http = httptest.NewServer(w.srv.Handler())
	t.Cleanup(func() {
		if err := w.ops.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		w.http.Client().CloseIdleConnections()
		w.http.Close()
	})
	return w
}

// do sends a request and gives the reply's status, headers and body.
func (w *world) do(method, path, body string) (int, http.Header, string) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.http.URL+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	reply, err := w.http.Client().Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer reply.Body.Close()
	content, err := io.ReadAll(reply.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return reply.StatusCode, reply.Header, string(content)
}

// get decodes a reply with this status.
func get[T any](w *world, method, path, body string, status int) T {
	w.t.Helper()
	code, _, content := w.do(method, path, body)
	var v T
	decoder := json.NewDecoder(strings.NewReader(content))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&v); err != nil || code != status {
		w.t.Fatalf("%s %s: %d, want %d: %s %v", method, path, code, status, content, err)
	}
	return v
}

// create makes a VM and waits for it.
func (w *world) create(body string) api.Operation {
	w.t.Helper()
	return w.follow(get[api.Operation](w, "POST", api.RouteVMs, body, 202))
}

// follow reads an operation's events to the end, and checks that it is one.
func (w *world) follow(op api.Operation) api.Operation {
	w.t.Helper()
	code, header, content := w.do("GET", "/v1/operations/"+op.ID+"/events", "")
	if code != 200 || header.Get("Content-Type") != "application/x-ndjson" {
		w.t.Fatalf("events: %d %s", code, content)
	}
	lines := strings.Split(strings.TrimSuffix(content, "\n"), "\n")
	var last api.Operation
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil {
		w.t.Fatal(err)
	}
	if last.Status == api.OperationRunning || last.Ended == nil || last.ID != op.ID {
		w.t.Fatalf("the events end with %s", lines[len(lines)-1])
	}
	return last
}

func TestVerbs(t *testing.T) {
	w := newWorld(t, &servertest.VMs{Text: "booting\n"})
	op := w.create(`{"name":"box","spec":{"labels":{"a":"<b>"}},"start":{}}`)
	if op.Status != api.OperationDone || op.Result == nil || op.Result.State != banger.StateRunning || !op.Changed || op.Target != "box" {
		t.Fatalf("%+v", op)
	}
	if op.Result.Spec.Memory != banger.DefaultMemory || op.Result.Spec.Work != 0 || op.Result.Spec.VMM != banger.VMMAuto {
		t.Errorf("defaults: %+v", op.Result.Spec)
	}
	if again := get[api.Operation](w, "GET", "/v1/operations/"+op.ID, "", 200); again.Status != api.OperationDone {
		t.Errorf("%+v", again)
	}
	if vm := get[banger.Detail](w, "GET", "/v1/vms/box", "", 200); vm.ID != op.Result.ID || vm.Labels["a"] != "<b>" {
		t.Errorf("%+v", vm)
	}
	if vms := get[[]banger.VM](w, "GET", api.RouteVMs, "", 200); len(vms) != 1 {
		t.Errorf("%+v", vms)
	}
	start := w.follow(get[api.Operation](w, "POST", "/v1/vms/box/start", `{"wait":"init"}`, 202))
	if start.Status != api.OperationDone || start.Changed || start.Progress.Message != "init" {
		t.Errorf("start of a running one: %+v", start)
	}
	if e := get[api.ErrorReply](w, "DELETE", "/v1/vms/box", "", 409); e.Error.Next != "banger vm delete --force box" {
		t.Errorf("%+v", e)
	}
	for _, c := range []struct {
		path, body, note string
		changed          bool
	}{
		{"stop", "", "10s", true},
		{"stop", `{"timeout_ms":1500}`, "1.5s", false},
		{"kill", "", "", false},
	} {
		if r := get[api.VerbReply](w, "POST", "/v1/vms/box/"+c.path, c.body, 200); r.Changed != c.changed || r.Note != c.note || r.VM.Name != "box" {
			t.Errorf("%+v: %+v", c, r)
		}
	}
	w.follow(get[api.Operation](w, "POST", "/v1/vms/box/start", "", 202))
	restart := w.follow(get[api.Operation](w, "POST", "/v1/vms/box/restart", `{"stop_timeout_ms":1500,"start":{"wait":"init"}}`, 202))
	if restart.Kind != "restart" || !restart.Changed || restart.Note != "1.5s" || restart.Progress.Message != "init" {
		t.Errorf("%+v", restart)
	}
	for _, path := range []string{"pause", "resume"} {
		if r := get[api.VerbReply](w, "POST", "/v1/vms/box/"+path, "", 200); !r.Changed {
			t.Errorf("%s: %+v", path, r)
		}
	}
	set := w.follow(get[api.Operation](w, "PATCH", "/v1/vms/box", `{"vcpus":2,"labels":{"a":null}}`, 202))
	if set.Kind != "set" || set.Result == nil || set.Result.VCPUs != 2 || len(set.Result.Labels) != 0 {
		t.Errorf("%+v", set)
	}
	if r := get[api.WaitReply](w, "GET", "/v1/vms/box/wait?for=ready", "", 200); !r.Reached || r.VM.State != banger.StateRunning {
		t.Errorf("wait: %+v", r)
	}
	if r := get[api.WaitReply](w, "GET", "/v1/vms/box/wait?timeout_ms=1", "", 200); r.Reached || r.VM.State != banger.StateRunning {
		t.Errorf("a wait for what does not happen: %+v", r)
	}
	if reset := w.follow(get[api.Operation](w, "POST", "/v1/vms/box/reset", `{"force":true}`, 202)); reset.Kind != "reset" || reset.Note != "forced" || reset.Result.State != banger.StateStopped {
		t.Errorf("%+v", reset)
	}
	if code, header, text := w.do("GET", "/v1/vms/box/logs", ""); code != 200 || text != "booting\n" || !strings.HasPrefix(header.Get("Content-Type"), "text/plain") {
		t.Errorf("logs: %d %q", code, text)
	}
	if r := get[api.VerbReply](w, "DELETE", "/v1/vms/box?force=true", "", 200); !r.Changed || r.VM.Name != "box" {
		t.Errorf("delete: %+v", r)
	}
	if _, _, text := w.do("GET", api.RouteVMs, ""); text != "[]\n" {
		t.Errorf("no VMs: %q", text)
	}
}

// Whatever is wrong with a request is said in the one form, and no operation begins.
func TestRefusals(t *testing.T) {
	w := newWorld(t, &servertest.VMs{})
	w.create(`{"name":"box"}`)
	big := `{"name":"` + strings.Repeat("x", 1<<20) + `"}`
	for name, c := range map[string]struct {
		method, path, body string
		status             int
		kind               banger.Kind
		says               string
	}{
		"taken name":        {"POST", api.RouteVMs, `{"name":"box"}`, 409, banger.KindConflict, "exists already"},
		"bad name":          {"POST", api.RouteVMs, `{"name":"../x"}`, 400, banger.KindInvalid, "../x"},
		"bad memory":        {"POST", api.RouteVMs, `{"spec":{"memory_bytes":1}}`, 400, banger.KindInvalid, "--memory"},
		"wrong type":        {"POST", api.RouteVMs, `{"spec":{"vcpus":"two"}}`, 400, banger.KindInvalid, "spec.vcpus"},
		"fraction":          {"POST", api.RouteVMs, `{"spec":{"vcpus":1.5}}`, 400, banger.KindInvalid, "spec.vcpus"},
		"unknown field":     {"POST", api.RouteVMs, `{"spec":{"cpus":2}}`, 400, banger.KindInvalid, "spec.cpus"},
		"no JSON":           {"POST", api.RouteVMs, `{"name":`, 400, banger.KindInvalid, "body"},
		"no body":           {"POST", api.RouteVMs, "", 400, banger.KindInvalid, "body"},
		"long body":         {"POST", api.RouteVMs, big, 400, banger.KindInvalid, "longer than"},
		"bad wait":          {"POST", api.RouteVMs, `{"start":{"wait":"later"}}`, 400, banger.KindInvalid, "--wait"},
		"negative timeout":  {"POST", "/v1/vms/box/start", `{"timeout_ms":-1}`, 400, banger.KindInvalid, "--timeout"},
		"endless timeout":   {"POST", "/v1/vms/box/stop", `{"timeout_ms":9223372036854775807}`, 400, banger.KindInvalid, "--timeout"},
		"bad condition":     {"GET", "/v1/vms/box/wait?for=ever", "", 400, banger.KindInvalid, "--for"},
		"wait for nothing":  {"GET", "/v1/vms/nothing/wait", "", 404, banger.KindNotFound, "nothing"},
		"bad restart":       {"POST", "/v1/vms/box/restart", `{"stop_timeout_ms":-1}`, 400, banger.KindInvalid, "--timeout"},
		"bad query":         {"DELETE", "/v1/vms/box?force=perhaps", "", 400, banger.KindInvalid, "force"},
		"start of nothing":  {"POST", "/v1/vms/nothing/start", `{"wait":"later"}`, 404, banger.KindNotFound, "nothing"},
		"stop of nothing":   {"POST", "/v1/vms/nothing/stop", "", 404, banger.KindNotFound, "nothing"},
		"kill of nothing":   {"POST", "/v1/vms/nothing/kill", "", 404, banger.KindNotFound, "nothing"},
		"delete of nothing": {"DELETE", "/v1/vms/nothing", "", 404, banger.KindNotFound, "nothing"},
		"show of nothing":   {"GET", "/v1/vms/a%20%2Fb", "", 404, banger.KindNotFound, `a /b`},
		"logs of nothing":   {"GET", "/v1/vms/nothing/logs", "", 404, banger.KindNotFound, "nothing"},
		"stats of nothing":  {"GET", "/v1/stats?vm=box&vm=nothing", "", 404, banger.KindNotFound, "nothing"},
		"no operation":      {"GET", "/v1/operations/nothing", "", 404, banger.KindNotFound, "nothing"},
		"no events":         {"GET", "/v1/operations/nothing/events", "", 404, banger.KindNotFound, "nothing"},
		"no cancel":         {"DELETE", "/v1/operations/nothing", "", 404, banger.KindNotFound, "nothing"},
		"no route":          {"GET", "/v2/vms", "", 404, banger.KindNotFound, "/v2/vms"},
		"no method":         {"PUT", api.RouteVMs, "", 404, banger.KindNotFound, "PUT"},
		"panic":             {"GET", "/v1/vms/panic", "", 500, banger.KindInternal, "defect"},
	} {
		t.Run(name, func(t *testing.T) {
			code, header, content := w.do(c.method, c.path, c.body)
			var reply api.ErrorReply
			decoder := json.NewDecoder(strings.NewReader(content))
			decoder.DisallowUnknownFields()
			if err := decoder.Decode(&reply); err != nil {
				t.Fatalf("%d %s: %v", code, content, err)
			}
			if code != c.status || reply.Error.Kind != c.kind || !strings.Contains(reply.Error.Message, c.says) {
				t.Errorf("%d %s", code, content)
			}
			if strings.Contains(reply.Error.Message, "\n") || header.Get("Content-Type") != "application/json" || header.Get(api.HeaderAPI) != "1" {
				t.Errorf("%q %v", reply.Error.Message, header)
			}
		})
	}
	if !strings.Contains(w.log.String(), "servertest/vms.go") {
		t.Error("no stack of the panic in the log")
	}
	if vms := get[[]banger.VM](w, "GET", api.RouteVMs, "", 200); len(vms) != 1 {
		t.Errorf("something was made: %+v", vms)
	}
}

func TestFailedOperation(t *testing.T) {
	w := newWorld(t, &servertest.VMs{})
	op := w.create(`{"name":"box","spec":{"image":"absent"}}`)
	if log := w.log.String(); op.Error != nil && (!strings.Contains(log, "operation failed") || !strings.Contains(log, `err="no image`)) {
		t.Errorf("the log does not say why the operation failed:\n%s", log)
	}
	if op.Status != api.OperationFailed || op.Error == nil || op.Error.Kind != banger.KindNotFound || op.Error.Next != "banger image list" || op.Result != nil {
		t.Errorf("%+v", op)
	}
	op = w.create(`{"name":"box","spec":{"image":"panic"}}`)
	if op.Status != api.OperationFailed || op.Error.Kind != banger.KindInternal || strings.Contains(op.Error.Message, "goroutine") {
		t.Errorf("%+v", op)
	}
}

func TestCancelledOperation(t *testing.T) {
	w := newWorld(t, &servertest.VMs{Hold: make(chan struct{})})
	op := get[api.Operation](w, "POST", api.RouteVMs, `{"name":"box"}`, 202)
	if op.Status != api.OperationRunning {
		t.Errorf("%+v", op)
	}
	get[api.Operation](w, "DELETE", "/v1/operations/"+op.ID, "", 200)
	if op = w.follow(op); op.Status != api.OperationCancelled || op.Error.Kind != banger.KindCancelled {
		t.Errorf("%+v", op)
	}
}

// The events come one by one, and a client that leaves takes its operation along.
func TestLeashedClientLeaves(t *testing.T) {
	w := newWorld(t, &servertest.VMs{Hold: make(chan struct{})})
	op := get[api.Operation](w, "POST", api.RouteVMs, `{"name":"box","leash":true}`, 202)
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	req, err := http.NewRequestWithContext(ctx, "GET", w.http.URL+"/v1/operations/"+op.ID+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	reply, err := w.http.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	decoder := json.NewDecoder(reply.Body)
	for event := (api.Operation{}); event.Progress == nil; { // it arrives while the operation runs
		if err := decoder.Decode(&event); err != nil {
			t.Fatal(err)
		}
	}
	leave()
	// Whoever follows it now would be a watcher himself, and might be one before
	// the server sees that the first has left.
	for op.Status == api.OperationRunning {
		op = get[api.Operation](w, "GET", "/v1/operations/"+op.ID, "", 200)
	}
	if op.Status != api.OperationCancelled {
		t.Errorf("%+v", op)
	}
}

// What is in the cache is listed, and nothing in it is an empty list.
func TestCache(t *testing.T) {
	w := newWorld(t, &servertest.VMs{})
	if all := get[[]banger.Image](w, "GET", api.RouteImages, "", 200); len(all) != 1 || all[0].Name != "debian" {
		t.Errorf("%+v", all)
	}
	if all := get[[]banger.KernelDetail](w, "GET", api.RouteKernels, "", 200); len(all) != 1 || all[0].Release != "6.1.0" {
		t.Errorf("%+v", all)
	}
	w.srv.Images, w.srv.Kernels = servertest.Images(nil), servertest.Kernels(nil)
	for _, route := range []string{api.RouteImages, api.RouteImageCatalog, api.RouteKernels} {
		if _, _, text := w.do("GET", route, ""); text != "[]\n" {
			t.Errorf("%s: %q", route, text)
		}
	}
}

// What is left over is shown, and removed when asked to.
func TestDoctor(t *testing.T) {
	w := newWorld(t, &servertest.VMs{})
	for method, fixed := range map[string]bool{"GET": false, "POST": true} {
		r := get[api.DoctorReply](w, method, api.RouteDoctor, "", 200)
		if len(r.Strays) != 1 || r.Strays[0].Fixed != fixed || len(r.Checks) != 1 || r.Cached {
			t.Errorf("%s: %+v", method, r)
		}
	}
	w.srv.Doctor = servertest.Doctor(nil)
	if _, _, text := w.do("GET", api.RouteDoctor, ""); !strings.Contains(text, `"strays":[]`) {
		t.Errorf("no strays: %q", text)
	}
}

// What is on disk is added up, and removed only when asked to.
func TestSpace(t *testing.T) {
	w := newWorld(t, &servertest.VMs{})
	if u := get[banger.DiskUsage](w, "GET", api.RouteUsage, "", 200); u.Total != 5 || len(u.Entries) != 1 {
		t.Errorf("%+v", u)
	}
	for query, removed := range map[string][]bool{"": {}, "?all=true&dry=true": {false}, "?all=true": {true}} {
		p := get[banger.Pruned](w, "POST", api.RoutePrune+query, "", 200)
		got := []bool{}
		for _, e := range p.Entries {
			got = append(got, e.Removed)
		}
		if !slices.Equal(got, removed) {
			t.Errorf("%q: %+v", query, p)
		}
	}
}

func TestDaemonStop(t *testing.T) {
	w := newWorld(t, &servertest.VMs{})
	if code, _, _ := w.do("POST", api.RouteDaemonStop, ""); code != 202 {
		t.Errorf("%d", code)
	}
	<-w.stop
}

func TestPingAndHeaders(t *testing.T) {
	w := newWorld(t, &servertest.VMs{})
	if p := get[api.Ping](w, "GET", api.RoutePing, "", 200); p.API != api.Version || p.Version != "v9-test" || p.PID != 4321 || p.Since.Year() != 2025 {
		t.Errorf("%+v", p)
	}
	_, first, _ := w.do("GET", api.RoutePing, "")
	_, second, _ := w.do("POST", "/v1/vms/nothing/kill", "")
	id := second.Get(api.HeaderRequestID)
	if first.Get(api.HeaderVersion) != "v9-test" || id == "" || id == first.Get(api.HeaderRequestID) {
		t.Errorf("%v %v", first, second)
	}
	w.http.Close() // the line is written after the reply
	for line := range strings.Lines(w.log.String()) {
		if strings.Contains(line, "request="+id) {
			for _, want := range []string{"level=INFO", "method=POST", "path=/v1/vms/nothing/kill", "status=404", "duration=", `err="no VM named \"nothing\""`} {
				if !strings.Contains(line, want) {
					t.Errorf("%s is not in %s", want, line)
				}
			}
			return
		}
	}
	t.Errorf("request %s is not in the log:\n%s", id, w.log)
}

// The daemon leaves when nobody has asked for anything for a while.
func TestActivity(t *testing.T) {
	w := newWorld(t, &servertest.VMs{Hold: make(chan struct{})})
	if n, last := w.srv.Activity(); n != 0 || last.Year() != 2025 {
		t.Errorf("before: %d, %s", n, last)
	}
	op := get[api.Operation](w, "POST", api.RouteVMs, `{"name":"box"}`, 202)
	reply, err := w.http.Client().Get(w.http.URL + "/v1/operations/" + op.ID + "/events")
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	if n, _ := w.srv.Activity(); n != 1 {
		t.Errorf("while one watches: %d", n)
	}
	w.vms.Hold <- struct{}{}
	if _, err := io.Copy(io.Discard, reply.Body); err != nil {
		t.Fatal(err)
	}
	w.http.Close()
	if n, last := w.srv.Activity(); n != 0 || last.Year() == 2025 {
		t.Errorf("after: %d, %s", n, last)
	}
}

// fields lists the paths of all members of a JSON value.
func fields(prefix string, v any, into map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		for name, member := range v {
			into[prefix+"."+name] = true
			fields(prefix+"."+name, member, into)
		}
	case []any:
		for _, member := range v {
			fields(prefix+"[]", member, into)
		}
	}
}

// The members of every reply are a promise to scripts: one may be added, here
// and in testdata/fields.txt, and none may go.
func TestReplyFields(t *testing.T) {
	w := newWorld(t, &servertest.VMs{})
	w.create(`{"name":"box","spec":{"labels":{"k":"v"},"env":["A=b"],"workdir":"/w","user":"u","ephemeral":true,"overcommit":true,"kernel":"k","sync":["none"]},"start":{"leased":true}}`)
	failed := w.create(`{"spec":{"image":"absent"}}`)
	got := map[string]bool{}
	for _, c := range [][3]string{
		{"ping", "GET", api.RoutePing},
		{"list", "GET", api.RouteVMs},
		{"show", "GET", "/v1/vms/box"},
		{"start", "POST", "/v1/vms/box/start"},
		{"images", "GET", api.RouteImages},
		{"catalog", "GET", api.RouteImageCatalog},
		{"lookup", "GET", api.RouteImageLookup + "?ref=debian"},
		{"kernels", "GET", api.RouteKernels},
		{"stats", "GET", api.RouteStats},
		{"operations", "GET", api.RouteOperations},
		{"doctor", "GET", api.RouteDoctor},
		{"usage", "GET", api.RouteUsage},
		{"prune", "POST", api.RoutePrune + "?all=true"},
		{"failed", "GET", "/v1/operations/" + failed.ID},
		{"stop", "POST", "/v1/vms/box/stop"},
		{"wait", "GET", "/v1/vms/box/wait"},
		{"error", "GET", "/v1/vms/nothing"},
	} {
		_, _, content := w.do(c[1], c[2], "")
		var v any
		if err := json.Unmarshal([]byte(content), &v); err != nil {
			t.Fatalf("%s: %v", content, err)
		}
		if c[0] == "start" {
			done, err := json.Marshal(w.follow(api.Operation{ID: v.(map[string]any)["id"].(string)}))
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(done, &v); err != nil {
				t.Fatal(err)
			}
		}
		if op, ok := v.(map[string]any); ok && c[0] == "start" {
			op["result"] = nil // as in show
		}
		if all, ok := v.([]any); ok && c[0] == "operations" {
			for _, op := range all {
				op.(map[string]any)["result"] = nil
			}
		}
		fields(c[0], v, got)
	}
	golden, err := os.ReadFile("testdata/fields.txt")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{}
	for line := range strings.Lines(string(golden)) {
		want[strings.TrimSpace(line)] = true
	}
	for name := range want {
		if !got[name] {
			t.Errorf("%s is gone", name)
		}
	}
	for name := range got {
		if !want[name] {
			t.Errorf("%s is new: add it to testdata/fields.txt", name)
		}
	}
}

// documented is every route, with its methods.
func documented() map[string]string {
	return map[string]string{
		api.RouteDaemonStop:      "post",
		api.RouteDoctor:          "get post",
		api.RouteUsage:           "get",
		api.RoutePrune:           "post",
		api.RouteImages:          "get delete",
		api.RouteImageCatalog:    "get",
		api.RouteImageLookup:     "get",
		api.RouteImagePull:       "post",
		api.RouteImageImport:     "post",
		api.RouteKernels:         "get delete",
		api.RouteKernelLookup:    "get",
		api.RouteKernelPull:      "post",
		api.RouteKernelImport:    "post",
		api.RouteOpenAPI:         "get",
		api.RouteOperations:      "get",
		api.RouteStats:           "get",
		api.RouteOperation:       "get delete",
		api.RouteOperationEvents: "get",
		api.RoutePing:            "get",
		api.RouteVM:              "get patch delete",
		api.RouteVMKill:          "post",
		api.RouteVMLogs:          "get",
		api.RouteVMPause:         "post",
		api.RouteVMPorts:         "get post delete",
		api.RouteVMReset:         "post",
		api.RouteVMCommit:        "post",
		api.RouteImageRegister:   "post",
		api.RouteVMRestart:       "post",
		api.RouteVMResume:        "post",
		api.RouteVMWait:          "get",
		api.RouteVMClock:         "post",
		api.RouteEvents:          "get",
		api.RouteMetrics:         "get",
		api.RouteVMStart:         "post",
		api.RouteVMStop:          "post",
		api.RouteVMs:             "get post",
	}
}

// Every route is in the document and leads somewhere.
func TestDocument(t *testing.T) {
	w := newWorld(t, &servertest.VMs{})
	type media struct {
		Schema map[string]any `json:"schema"`
	}
	type reply struct {
		Content map[string]media `json:"content"`
	}
	type op struct {
		Responses map[string]reply `json:"responses"`
	}
	code, _, content := w.do("GET", api.RouteOpenAPI, "")
	var doc struct {
		OpenAPI    string                   `json:"openapi"`
		Paths      map[string]map[string]op `json:"paths"`
		Components struct {
			Schemas map[string]any `json:"schemas"`
		} `json:"components"`
	}
	if err := json.Unmarshal([]byte(content), &doc); err != nil || code != 200 {
		t.Fatalf("%d %v", code, err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1") {
		t.Errorf("openapi: %q", doc.OpenAPI)
	}
	for path, methods := range documented() {
		for _, method := range strings.Fields(methods) {
			described, ok := doc.Paths[path][method]
			if !ok {
				t.Errorf("%s %s is not described", method, path)
				continue
			}
			if ref := described.Responses["default"].Content["application/json"].Schema["$ref"]; ref != "#/components/schemas/ErrorReply" {
				t.Errorf("%s %s: errors are %v", method, path, ref)
			}
			_, _, answer := w.do(strings.ToUpper(method), strings.NewReplacer("{ref}", "nothing", "{id}", "nothing").Replace(path), "")
			if strings.Contains(answer, "there is no ") {
				t.Errorf("%s %s leads nowhere", method, path)
			}
		}
		if n := len(doc.Paths[path]); n != len(strings.Fields(methods)) {
			t.Errorf("%s: %d methods are described, want %s", path, n, methods)
		}
	}
	if n := len(doc.Paths); n != len(documented()) {
		t.Errorf("%d paths", n)
	}
	for _, name := range []string{"ErrorModel", "ErrorDetail"} {
		if doc.Components.Schemas[name] != nil {
			t.Errorf("%s is no type of ours", name)
		}
	}
	refs := map[string]bool{}
	collectRefs(t, content, refs)
	for ref := range refs {
		if name, ok := strings.CutPrefix(ref, "#/components/schemas/"); !ok || doc.Components.Schemas[name] == nil {
			t.Errorf("%s leads nowhere", ref)
		}
	}
}

func collectRefs(t *testing.T, document string, into map[string]bool) {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(document))
	for after := false; ; {
		token, err := decoder.Token()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if after {
			into[fmt.Sprint(token)] = true
		}
		after = token == "$ref"
	}
}

// The routes of internal/api that the test above lists are all there are.
func TestEveryRouteConstantIsTested(t *testing.T) {
	source, err := os.ReadFile("../api/api.go")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(source), "\n\tRoute"); n != len(documented()) {
		t.Errorf("%d route constants: add the new one to TestDocument", n)
	}
}

func BenchmarkNew(b *testing.B) {
	log := slog.New(slog.DiscardHandler)
	for b.Loop() {
		server.New(server.Config{VMs: &servertest.VMs{}, Operations: operation.New[server.Result](log), Events: &servertest.Events{}, Metrics: &servertest.Metrics{}, Log: log})
	}
}

// A pull is an operation that comes to an image, and what lets it into a
// registry is in nothing that the daemon says.
func TestPullImage(t *testing.T) {
	w := newWorld(t, &servertest.VMs{})
	pull := func(ref string) api.Operation {
		return w.follow(get[api.Operation](w, "POST", api.RouteImagePull, `{"reference":"`+ref+`","credentials":{"example.org":{"username":"ada","password":"secret"}}}`, 202))
	}
	op := pull("debian")
	if op.Status != api.OperationDone || op.Kind != "image pull" || op.Target != "debian" || op.Image == nil || op.Image.Name != "debian" || op.Result != nil || !op.Changed {
		t.Errorf("%+v", op)
	}
	if op := pull("absent"); op.Status != api.OperationFailed || op.Error.Kind != banger.KindNotFound || op.Image != nil {
		t.Errorf("%+v", op)
	}
	if _, _, all := w.do("GET", api.RouteOperations, ""); strings.Contains(all, "secret") || strings.Contains(all, "ada") {
		t.Errorf("%s", all)
	}
	if found := get[api.ImageLookup](w, "GET", api.RouteImageLookup+"?ref=absent", "", 200); found.Image != nil || len(found.Hosts) != 1 {
		t.Errorf("%+v", found)
	}
}

// A commit is an operation that comes to an image, and is about a VM that is there.
func TestCommitImage(t *testing.T) {
	w := newWorld(t, &servertest.VMs{})
	get[api.ErrorReply](w, "POST", "/v1/vms/nosuch/commit", `{"name":"mine"}`, 404)
	w.follow(get[api.Operation](w, "POST", api.RouteVMs, `{"name":"box"}`, 202))
	op := w.follow(get[api.Operation](w, "POST", "/v1/vms/box/commit", `{"name":"mine"}`, 202))
	if op.Status != api.OperationDone || op.Kind != "image commit" || op.Target != "mine" || op.Image == nil || op.Image.Name != "mine" {
		t.Errorf("%+v", op)
	}
}

// A pull of a kernel is an operation that comes to a kernel.
func TestPullKernel(t *testing.T) {
	w := newWorld(t, &servertest.VMs{})
	pull := func(release string) api.Operation {
		return w.follow(get[api.Operation](w, "POST", api.RouteKernelPull, `{"release":"`+release+`"}`, 202))
	}
	op := pull("debian-trixie")
	if op.Status != api.OperationDone || op.Kind != "kernel pull" || op.Kernel == nil || op.Kernel.Release != "6.1.0" || op.Result != nil || op.Image != nil || !op.Changed {
		t.Errorf("%+v", op)
	}
	if op := pull("absent"); op.Status != api.OperationFailed || op.Error.Kind != banger.KindNotFound || op.Kernel != nil {
		t.Errorf("%+v", op)
	}
}

// What a name of a kernel stands for, which VMs and images use it, and that it
// then stays: with another name of it only for those that were given this one.
func TestKernelsInUse(t *testing.T) {
	w := newWorld(t, &servertest.VMs{})
	other := kernels[0]
	other.Name, other.Default = "mine", false
	w.srv.Kernels = append(servertest.Kernels{other}, kernels...)
	w.srv.Images = servertest.Images{{Name: "own", Kernel: "mine"}, {Name: "plain"}}
	w.create(`{"name":"box","spec":{"kernel":"mine"}}`)
	w.create(`{"name":"other","spec":{}}`)
	k := get[banger.KernelDetail](w, "GET", api.RouteKernelLookup+"?ref=mine", "", 200)
	if strings.Join(k.VMs, " ") != "box other" || strings.Join(k.Images, " ") != "own" || k.Size != 30*banger.MiB {
		t.Errorf("%+v", k)
	}
	if e := get[api.ErrorReply](w, "DELETE", api.RouteKernels+"?ref=mine", "", 409).Error; e.Message != "the kernel mine is needed by box" || e.Next != "banger vm set --kernel OTHER box" {
		t.Errorf("%+v", e)
	}
	get[banger.Kernel](w, "DELETE", api.RouteKernels+"?ref=debian-trixie", "", 200)
	w.srv.Kernels = kernels
	if e := get[api.ErrorReply](w, "DELETE", api.RouteKernels+"?ref=debian-trixie", "", 409).Error; e.Message != "the kernel debian-trixie is needed by box, other" {
		t.Errorf("%+v", e)
	}
	get[api.ErrorReply](w, "DELETE", api.RouteKernels+"?ref=absent", "", 404)
	get[api.ErrorReply](w, "GET", api.RouteKernelLookup+"?ref=absent", "", 404)
}

// An image that cannot go names the VMs that need it.
func TestDeleteImage(t *testing.T) {
	w := newWorld(t, &servertest.VMs{})
	if e := get[api.ErrorReply](w, "DELETE", api.RouteImages+"?ref=absent", "", 404).Error; !strings.Contains(e.Message, "absent") {
		t.Errorf("%+v", e)
	}
	if e := get[api.ErrorReply](w, "DELETE", api.RouteImages+"?ref=debian", "", 409).Error; !strings.Contains(e.Message, "need it") {
		t.Errorf("%+v", e)
	}
}
