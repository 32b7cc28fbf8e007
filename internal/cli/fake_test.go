package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/agent/control"
	"banger.dev/banger/internal/agent/dial"
	"banger.dev/banger/internal/agent/files"
	"banger.dev/banger/internal/agent/users"
	"banger.dev/banger/internal/agent/wire"
	"banger.dev/banger/internal/api"
	"banger.dev/banger/internal/paths"
	"banger.dev/banger/internal/version"
)

// world is a home of banger's with a daemon, monitors and guests that are only
// as real as their sockets. What they were asked is in asked, in order.
type world struct {
	t      *testing.T
	home   string
	layout paths.Layout
	env    map[string]string

	// The guest's answer to every command; nil echoes stdin and ends with 0.
	command func(*guestCall) wire.Exit
	// When set, what the daemon says instead of doing the verb ("create web").
	fail map[string]*banger.Error
	// What the daemon reports while it creates.
	progress   []banger.Progress
	entrypoint []string
	cmd        []string
	lookup     api.ImageLookup
	noMonitor  bool     // VMs have no monitor socket
	interrupt  int      // operations take until they are cancelled, and when so many are followed this process gets a SIGINT
	followed   int      // operations, until they are cancelled
	inVain     int      // how often somebody waits in vain
	consoles   []string // what each stream of a console says; all but the last are cut off
	health     api.DoctorReply
	usage      banger.DiskUsage
	pruned     banger.Pruned // whatever is asked
	stats      []banger.Stats
	sockets    *wire.Sockets // what listens in every guest; nil: its agent is old
	streams    []string      // what each stream of events says; all but the last are cut off

	mu     sync.Mutex
	asked  []string
	bodies map[string]string // the last body of a verb
	vms    []banger.Detail
	ops    map[string]*api.Operation
	cancel map[string]chan struct{} // closed when the operation is cancelled
	daemon *http.Server
}

func newWorld(t *testing.T) *world {
	home, err := os.MkdirTemp("", "bng") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(home) })
	w := &world{
		t: t, home: home, env: map[string]string{"BANGER_HOME": home, "FROM_HOST": "yes", "TERM": "dumb"},
		fail: map[string]*banger.Error{}, bodies: map[string]string{}, ops: map[string]*api.Operation{}, cancel: map[string]chan struct{}{},
	}
	if w.layout, err = paths.FromEnv(func(name string) string { return w.env[name] }); err != nil {
		t.Fatal(err)
	}
	return w
}

// withDaemon has a daemon answer.
func (w *world) withDaemon() *world {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+api.RoutePing, func(rw http.ResponseWriter, _ *http.Request) {
		reply(rw, 200, api.Ping{API: api.Version, Version: version.String(), PID: os.Getpid(), Since: time.Now().Add(-time.Hour)})
	})
	mux.HandleFunc("GET "+api.RouteVMs, w.verb("list", func(rw http.ResponseWriter, _ string) {
		out := []banger.VM{}
		for _, vm := range w.vms {
			out = append(out, vm.VM)
		}
		reply(rw, 200, out)
	}))
	mux.HandleFunc("GET "+api.RouteImageCatalog, w.verb("catalog", func(rw http.ResponseWriter, _ string) {
		reply(rw, 200, []banger.CatalogImage{
			{CatalogEntry: banger.CatalogEntry{Name: "debian", Source: "debian:trixie", Description: "small"}, Image: &banger.Image{Digest: "sha256:0123456789abcdef"}},
			{CatalogEntry: banger.CatalogEntry{Name: "dev", Source: "debian:trixie", Description: "large"}},
		})
	}))
	mux.HandleFunc("GET "+api.RouteImageLookup, func(rw http.ResponseWriter, _ *http.Request) { reply(rw, 200, w.lookup) })
	mux.HandleFunc("DELETE "+api.RouteImages, w.verb("delete image", func(rw http.ResponseWriter, _ string) { reply(rw, 200, banger.Image{}) }))
	mux.HandleFunc("POST "+api.RouteImagePull, w.verb("pull", func(rw http.ResponseWriter, _ string) {
		w.begin(rw, &api.Operation{Kind: "image pull", Target: "mine", Status: api.OperationDone, Image: &banger.Image{Name: "mine", Digest: "sha256:abc"}})
	}))
	mux.HandleFunc("POST "+api.RouteImageImport, w.verb("import", func(rw http.ResponseWriter, _ string) {
		reply(rw, 200, banger.Image{Name: "mine", Digest: "sha256:abc"})
	}))
	mux.HandleFunc("POST "+api.RouteImageRegister, w.verb("register", func(rw http.ResponseWriter, _ string) {
		reply(rw, 200, banger.Image{Name: "mine", Digest: "sha256:abc"})
	}))
	mux.HandleFunc("POST "+api.RouteVMCommit, w.verb("commit", func(rw http.ResponseWriter, ref string) {
		if w.find(rw, ref) != nil {
			w.begin(rw, &api.Operation{Kind: "image commit", Target: "mine", Status: api.OperationDone, Image: &banger.Image{Name: "mine", Digest: "sha256:abc"}})
		}
	}))
	mux.HandleFunc("POST "+api.RouteVMs, w.verb("create", w.create))
	mux.HandleFunc("GET "+api.RouteVM, w.verb("show", func(rw http.ResponseWriter, ref string) {
		if vm := w.find(rw, ref); vm != nil {
			reply(rw, 200, *vm)
		}
	}))
	mux.HandleFunc("DELETE "+api.RouteVM, w.verb("delete", w.delete))
	mux.HandleFunc("POST "+api.RouteVMStart, w.verb("start", w.start))
	mux.HandleFunc("POST "+api.RouteVMStop, w.verb("stop", func(rw http.ResponseWriter, ref string) { w.halt(rw, ref) }))
	mux.HandleFunc("POST "+api.RouteVMKill, w.verb("kill", func(rw http.ResponseWriter, ref string) { w.halt(rw, ref) }))
	mux.HandleFunc("POST "+api.RouteVMRestart, w.verb("restart", w.start))
	mux.HandleFunc("POST "+api.RouteVMPause, w.verb("pause", func(rw http.ResponseWriter, ref string) { w.turn(rw, ref, banger.StatePaused) }))
	mux.HandleFunc("POST "+api.RouteVMResume, w.verb("resume", func(rw http.ResponseWriter, ref string) { w.turn(rw, ref, banger.StateRunning) }))
	mux.HandleFunc("POST "+api.RouteVMReset, w.verb("reset", w.reset))
	mux.HandleFunc("PATCH "+api.RouteVM, w.verb("set", w.reset))
	mux.HandleFunc("GET "+api.RouteVMWait, w.verb("wait", w.await))
	mux.HandleFunc("GET "+api.RouteVMLogs, w.verb("logs", func(rw http.ResponseWriter, ref string) {
		vm := w.find(rw, ref)
		if vm == nil {
			return
		}
		said := "log+16 2026-01-01 boot\x1b[31m\n"
		if len(w.consoles) > 0 {
			said, w.consoles = w.consoles[0], w.consoles[1:]
			rw.Header().Set(api.HeaderPlace, "log+8")
		}
		if said == "deleted" {
			refuse(rw, banger.Errorf(banger.KindNotFound, "no VM named %q", ref))
			return
		}
		rw.Header().Set(api.HeaderVM, vm.ID)
		rw.Header().Set(api.HeaderPlaces, api.PlacesKept)
		_, _ = io.WriteString(rw, said)
		if len(w.consoles) > 0 {
			_ = http.NewResponseController(rw).Flush()
			panic(http.ErrAbortHandler)
		}
	}))
	mux.HandleFunc("GET "+api.RouteImages, w.verb("images", func(rw http.ResponseWriter, _ string) {
		reply(rw, 200, []banger.Image{{Name: "", Digest: "sha256:0"}, {Name: "debian"}, {Name: "mine"}})
	}))
	mux.HandleFunc("GET "+api.RouteKernels, w.verb("kernels", func(rw http.ResponseWriter, _ string) {
		var list []banger.KernelDetail
		for _, k := range []banger.Kernel{
			{Name: "debian-trixie", Release: "6.12.1-cloud", Default: true, Digest: "sha256:0123456789abcdef", Source: "debian trixie"},
			{Name: "mine", Release: "6.1.0-cloud"}, {Release: "6.1.0-cloud"},
		} {
			list = append(list, banger.KernelDetail{Kernel: k, Size: 40 * banger.MiB, VMs: []string{"web"}})
		}
		reply(rw, 200, list)
	}))
	mux.HandleFunc("GET "+api.RouteKernelLookup, w.verb("kernel", func(rw http.ResponseWriter, _ string) {
		reply(rw, 200, banger.KernelDetail{Kernel: banger.Kernel{Name: "mine", Release: "6.1.0-cloud", ModuleCount: 7}, VMs: []string{"web", "db"}})
	}))
	mux.HandleFunc("DELETE "+api.RouteKernels, w.verb("delete kernel", func(rw http.ResponseWriter, _ string) { reply(rw, 200, banger.Kernel{Name: "mine"}) }))
	mux.HandleFunc("POST "+api.RouteKernelPull, w.verb("pull kernel", func(rw http.ResponseWriter, _ string) {
		w.begin(rw, &api.Operation{Kind: "kernel pull", Target: "debian", Status: api.OperationDone, Kernel: &banger.Kernel{Name: "debian-trixie", Digest: "sha256:abc"}})
	}))
	mux.HandleFunc("POST "+api.RouteKernelImport, w.verb("import kernel", func(rw http.ResponseWriter, _ string) {
		reply(rw, 200, banger.Kernel{Name: "mine", Digest: "sha256:def"})
	}))
	mux.HandleFunc("GET "+api.RouteDoctor, w.verb("doctor", func(rw http.ResponseWriter, _ string) { reply(rw, 200, w.health) }))
	mux.HandleFunc("POST "+api.RouteDoctor, w.verb("doctor-fix", func(rw http.ResponseWriter, _ string) {
		for i := range w.health.Strays {
			w.health.Strays[i].Fixed = w.health.Strays[i].Fixable
		}
		reply(rw, 200, w.health)
	}))
	mux.HandleFunc("GET "+api.RouteUsage, w.verb("usage", func(rw http.ResponseWriter, _ string) { reply(rw, 200, w.usage) }))
	mux.HandleFunc("POST "+api.RoutePrune, w.verb("prune", func(rw http.ResponseWriter, _ string) { reply(rw, 200, w.pruned) }))
	mux.HandleFunc("GET "+api.RouteVMPorts, w.verb("port-list", w.listPorts))
	mux.HandleFunc("POST "+api.RouteVMPorts, w.verb("port-add", w.addPorts))
	mux.HandleFunc("DELETE "+api.RouteVMPorts, w.verb("port-remove", w.removePorts))
	mux.HandleFunc("GET "+api.RouteEvents, w.tell)
	mux.HandleFunc("GET "+api.RouteStats, w.verb("stats", func(rw http.ResponseWriter, _ string) { reply(rw, 200, w.sample()) }))
	mux.HandleFunc("GET "+api.RouteOperation, w.operation)
	mux.HandleFunc("GET "+api.RouteOperationEvents, w.events)
	mux.HandleFunc("DELETE "+api.RouteOperation, func(rw http.ResponseWriter, r *http.Request) {
		w.note("cancel")
		w.mu.Lock()
		close(w.cancel[r.PathValue("id")])
		w.mu.Unlock()
		w.operation(rw, r)
	})
	mux.HandleFunc("POST "+api.RouteDaemonStop, w.verb("daemon-stop", func(rw http.ResponseWriter, _ string) {
		rw.WriteHeader(http.StatusAccepted)
		go w.stopDaemon()
	}))
	w.daemon = w.serve(w.layout.DaemonSocket(), http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set(api.HeaderAPI, strconv.Itoa(api.Version))
		rw.Header().Set(api.HeaderVersion, version.String())
		mux.ServeHTTP(rw, r)
	}))
	return w
}

// sample is w.stats, a second and half a second of CPU after the last one.
func (w *world) sample() []banger.Stats {
	for i := range w.stats {
		s := &w.stats[i]
		s.Time = s.Time.Add(time.Second)
		if s.CPUSeconds != nil {
			*s.CPUSeconds += 0.5
		}
	}
	return w.stats
}

// tell is one stream of events, which begins behind the id 5 unless asked otherwise.
func (w *world) tell(rw http.ResponseWriter, r *http.Request) {
	w.note("events?%s", r.URL.RawQuery)
	w.mu.Lock()
	said := w.streams[0]
	w.streams = w.streams[1:]
	last := len(w.streams) == 0
	w.mu.Unlock()
	after := r.URL.Query().Get("after")
	if after == "" {
		after = "5"
	}
	if said == "skew" {
		rw.Header().Set(api.HeaderAPI, "99")
	}
	rw.Header().Set(api.HeaderLastEvent, after)
	_, _ = io.WriteString(rw, said)
	_ = http.NewResponseController(rw).Flush()
	if !last {
		panic(http.ErrAbortHandler)
	}
}

func (w *world) serve(socket string, handler http.Handler) *http.Server {
	server := &http.Server{Handler: handler}
	listener := w.listen(socket)
	go func() { _ = server.Serve(listener) }()
	w.t.Cleanup(func() { _ = server.Close() })
	return server
}

func (w *world) listen(socket string) net.Listener {
	if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
		w.t.Fatal(err)
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := os.Chmod(socket, 0o600); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = listener.Close() })
	return listener
}

func (w *world) stopDaemon() { _ = w.daemon.Close() }

func reply(rw http.ResponseWriter, status int, v any) {
	rw.Header().Set("Content-Type", "application/json")
	rw.WriteHeader(status)
	_ = json.NewEncoder(rw).Encode(v)
}

func refuse(rw http.ResponseWriter, err *banger.Error) {
	reply(rw, api.StatusOf(err.Kind), api.ErrorReply{Error: *err})
}

func (w *world) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, fmt.Sprintf(format, args...))
}

// verb notes what was asked and holds the world still for do.
func (w *world) verb(name string, do func(http.ResponseWriter, string)) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		ref := r.PathValue("ref")
		asked := strings.TrimSpace(name + " " + ref)
		if r.URL.RawQuery != "" {
			asked += "?" + r.URL.RawQuery
		}
		w.note("%s", asked)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.bodies[name] = string(body)
		if err := w.fail[strings.TrimSpace(name+" "+ref)]; err != nil {
			refuse(rw, err)
			return
		}
		do(rw, ref)
	}
}

func (w *world) find(rw http.ResponseWriter, ref string) *banger.Detail {
	for i := range w.vms {
		if w.vms[i].Name == ref || w.vms[i].ID == ref {
			return &w.vms[i]
		}
	}
	refuse(rw, banger.Errorf(banger.KindNotFound, "there is no VM %q", ref).WithNext("banger vm list"))
	return nil
}

// add puts a VM into the world, with a guest and a monitor if it is running.
func (w *world) add(name string, state banger.State) *banger.Detail {
	id := fmt.Sprintf("%016x", len(w.vms)+0xabcdef00)
	spec := banger.Spec{}.WithDefaults()
	w.vms = append(w.vms, banger.Detail{
		VM: banger.VM{
			ID: id, Name: name, State: state, Image: spec.Image, VCPUs: spec.VCPUs, MemoryBytes: spec.Memory,
			DiskBytes: spec.Disk, Created: time.Now().Add(-3 * time.Hour),
		},
		Spec: spec, Paths: w.layout.VM(id).All(), Entrypoint: w.entrypoint, Cmd: w.cmd,
	})
	if state == banger.StateRunning {
		w.boot(id)
	}
	return &w.vms[len(w.vms)-1]
}

func (w *world) boot(id string) {
	guest := w.listen(w.layout.VM(id).GuestSocket())
	go w.serveGuest(guest)
	if w.noMonitor {
		return
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /lease", func(rw http.ResponseWriter, r *http.Request) {
		w.note("lease")
		rw.WriteHeader(200)
		_ = http.NewResponseController(rw).Flush()
		<-r.Context().Done()
		w.note("release")
	})
	w.serve(w.layout.VM(id).MonitorSocket(), mux)
}

func (w *world) create(rw http.ResponseWriter, _ string) {
	var req api.CreateRequest
	if err := json.Unmarshal([]byte(w.bodies["create"]), &req); err != nil {
		refuse(rw, banger.Errorf(banger.KindInvalid, "%w", err))
		return
	}
	if req.Name == "" {
		req.Name = "brave-otter"
	}
	state := banger.StateStopped
	if req.Start != nil {
		state = banger.StateRunning
	}
	vm := *w.add(req.Name, state)
	w.begin(rw, &api.Operation{Kind: "create", Target: req.Name, Status: api.OperationDone, Changed: true, Result: &vm})
}

func (w *world) start(rw http.ResponseWriter, ref string) {
	vm := w.find(rw, ref)
	if vm == nil {
		return
	}
	changed := vm.State != banger.StateRunning
	vm.State = banger.StateRunning
	result := *vm
	w.begin(rw, &api.Operation{Kind: "start", Target: vm.Name, Status: api.OperationDone, Changed: changed, Result: &result})
}

func (w *world) begin(rw http.ResponseWriter, op *api.Operation) {
	op.ID = fmt.Sprintf("%016x", len(w.ops)+1)
	op.Started = time.Now()
	if err := w.fail[op.Kind+" operation"]; err != nil {
		op.Status, op.Error, op.Result = api.OperationFailed, err, nil
	}
	w.ops[op.ID], w.cancel[op.ID] = op, make(chan struct{})
	running := *op
	running.Status, running.Result, running.Error = api.OperationRunning, nil, nil
	reply(rw, http.StatusAccepted, running)
}

func (w *world) operation(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if op := w.ops[r.PathValue("id")]; op != nil {
		reply(rw, 200, op)
		return
	}
	refuse(rw, banger.Errorf(banger.KindNotFound, "no such operation"))
}

func (w *world) events(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	op, cancelled := w.ops[r.PathValue("id")], w.cancel[r.PathValue("id")]
	w.mu.Unlock()
	if op == nil {
		refuse(rw, banger.Errorf(banger.KindNotFound, "no such operation"))
		return
	}
	rw.Header().Set("Content-Type", "application/x-ndjson")
	out := json.NewEncoder(rw)
	for _, p := range w.progress {
		_ = out.Encode(api.Operation{ID: op.ID, Kind: op.Kind, Target: op.Target, Status: api.OperationRunning, Progress: &p, Started: op.Started})
	}
	if w.interrupt > 0 {
		_ = http.NewResponseController(rw).Flush()
		w.mu.Lock()
		w.followed++
		now := w.followed == w.interrupt
		w.mu.Unlock()
		if now {
			_ = syscall.Kill(os.Getpid(), syscall.SIGINT)
		}
		<-cancelled
		w.mu.Lock()
		defer w.mu.Unlock()
		op.Status, op.Error, op.Result = api.OperationCancelled, banger.Errorf(banger.KindCancelled, "%s %s was interrupted", op.Kind, op.Target), nil
	}
	_ = out.Encode(op)
}

func (w *world) halt(rw http.ResponseWriter, ref string) {
	vm := w.find(rw, ref)
	if vm == nil {
		return
	}
	changed := vm.State == banger.StateRunning
	vm.State = banger.StateStopped
	reply(rw, 200, api.VerbReply{VM: vm.VM, Changed: changed})
}

func (w *world) turn(rw http.ResponseWriter, ref string, state banger.State) {
	vm := w.find(rw, ref)
	if vm == nil {
		return
	}
	changed := vm.State != state
	vm.State = state
	reply(rw, 200, api.VerbReply{VM: vm.VM, Changed: changed})
}

func (w *world) reset(rw http.ResponseWriter, ref string) {
	if vm := w.find(rw, ref); vm != nil {
		result := *vm
		w.begin(rw, &api.Operation{Kind: "reset", Target: vm.Name, Status: api.OperationDone, Changed: true, Result: &result})
	}
}

func (w *world) await(rw http.ResponseWriter, ref string) {
	if vm := w.find(rw, ref); vm != nil {
		w.inVain--
		reply(rw, 200, api.WaitReply{VM: vm.VM, Reached: w.inVain < 0})
	}
}

func (w *world) delete(rw http.ResponseWriter, ref string) {
	vm := w.find(rw, ref)
	if vm == nil {
		return
	}
	gone := vm.VM
	w.vms = slices.DeleteFunc(w.vms, func(vm banger.Detail) bool { return vm.ID == gone.ID })
	reply(rw, 200, api.VerbReply{VM: gone, Changed: true})
}

// guestCall is one command that came to a guest.
type guestCall struct {
	wire.Request
	stdin          io.Reader
	stdout, stderr io.Writer
	signals        chan int
	resizes        chan [2]uint16
	conn           net.Conn
}

func (w *world) serveGuest(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go w.serveCall(conn)
	}
}

func (w *world) serveCall(conn net.Conn) {
	defer conn.Close()
	line := make([]byte, 0, 32)
	for b := make([]byte, 1); !bytes.HasSuffix(line, []byte("\n")); line = append(line, b[0]) {
		if _, err := conn.Read(b); err != nil {
			return
		}
	}
	switch string(line) {
	case fmt.Sprintf("CONNECT %d\n", wire.PortExec):
	case fmt.Sprintf("CONNECT %d\n", wire.PortControl):
		_, _ = io.WriteString(conn, "OK 1\n")
		w.control().Serve(conn)
		return
	case fmt.Sprintf("CONNECT %d\n", wire.PortDial): // into this host
		_, _ = io.WriteString(conn, "OK 1\n")
		(&dial.Server{}).Serve(conn)
		return
	default:
		_, _ = io.WriteString(conn, "OK 1\n") // as the monitor, which cannot know
		w.note("guest: %q", line)
		return
	}
	_, _ = io.WriteString(conn, "OK 1\n")
	frames := wire.NewFrameReader(conn)
	req, err := frames.Request()
	if err != nil {
		return
	}
	w.note("exec %v", req.Argv)
	out := wire.NewFrameWriter(conn)
	in, stdin := io.Pipe()
	call := &guestCall{
		Request: req, stdin: in, conn: conn, signals: make(chan int, 16), resizes: make(chan [2]uint16, 16),
		stdout: frameOutput{out, wire.FrameStdout}, stderr: frameOutput{out, wire.FrameStderr},
	}
	go func() {
		defer stdin.Close()
		defer close(call.signals)
		for {
			kind, payload, err := frames.Next()
			switch {
			case err != nil:
				return
			case kind == wire.FrameStdin:
				_, _ = stdin.Write(payload)
				_ = out.WriteUint32(wire.FrameCredit, uint32(len(payload)))
			case kind == wire.FrameStdinEnd:
				_ = stdin.Close()
			case kind == wire.FrameSignal:
				call.signals <- int(payload[0])
			case kind == wire.FrameResize:
				rows, cols, _ := wire.ParseResize(payload)
				call.resizes <- [2]uint16{rows, cols}
			}
		}
	}()
	exit := exitWith(0)
	if w.command != nil {
		exit = w.command(call)
	} else {
		_, _ = io.Copy(call.stdout, in)
	}
	_ = in.Close()
	_ = out.WriteExit(exit)
}

// guestHome is the home of root in every guest.
func (w *world) guestHome() string { return filepath.Join(w.home, "guest-root") }

// control is the agent's own carrying of files; a guest's root directory is this
// machine's, but for root's home.
func (w *world) control() *control.Server {
	etc := filepath.Join(w.home, "guest-etc", "etc")
	if err := errors.Join(os.MkdirAll(etc, 0o755), os.MkdirAll(w.guestHome(), 0o700)); err != nil {
		w.t.Error(err)
	}
	if err := os.WriteFile(etc+"/passwd", []byte("root:x:0:0::"+w.guestHome()+":/bin/sh\n"), 0o644); err != nil {
		w.t.Error(err)
	}
	disk := &files.Server{Users: &users.DB{Root: filepath.Dir(etc)}}
	all := disk.All()
	all[wire.PathWrite] = func(body io.Reader, answer io.Writer) error {
		w.note("write")
		return disk.Write(body, answer)
	}
	server := &control.Server{Streams: all}
	if w.sockets != nil {
		server.Asks = map[string]func() (any, error){wire.PathSockets: func() (any, error) { return w.sockets, nil }}
	}
	return server
}

type frameOutput struct {
	frames *wire.FrameWriter
	kind   wire.FrameType
}

func (o frameOutput) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := min(len(rest), 64<<10)
		if err := o.frames.Write(o.kind, rest[:n]); err != nil {
			return 0, err
		}
		rest = rest[n:]
	}
	return len(p), nil
}

func exitWith(code int) wire.Exit { return wire.Exit{Code: &code} }

// result is what one run of the command came to.
type result struct {
	code           int
	stdout, stderr string
}

func (w *world) run(args ...string) result { return w.runWith("", args...) }

func (w *world) runWith(stdin string, args ...string) result {
	var stdout, stderr bytes.Buffer
	code := Run(context.Background(), w.process(strings.NewReader(stdin), &stdout, &stderr), args)
	return result{code, stdout.String(), stderr.String()}
}

func (w *world) process(stdin io.Reader, stdout, stderr io.Writer) Process {
	return Process{Stdin: stdin, Stdout: stdout, Stderr: stderr, LookupEnv: func(name string) (string, bool) {
		value, ok := w.env[name]
		return value, ok
	}}
}

// questions are what the daemon, the monitor and the guest were asked.
func (w *world) questions() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.asked)
}

// created is the last request to make a VM.
func (w *world) created() api.CreateRequest {
	w.mu.Lock()
	defer w.mu.Unlock()
	var req api.CreateRequest
	if err := json.Unmarshal([]byte(w.bodies["create"]), &req); err != nil {
		w.t.Fatalf("nothing was created: %v", err)
	}
	return req
}

func (r result) want(t *testing.T, code int, stdout, stderr string) {
	t.Helper()
	if r.code != code || r.stdout != stdout || r.stderr != stderr {
		t.Errorf("got code %d\nstdout %q\nstderr %q\nwant code %d\nstdout %q\nstderr %q", r.code, r.stdout, r.stderr, code, stdout, stderr)
	}
}
