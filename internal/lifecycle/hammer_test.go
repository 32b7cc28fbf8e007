package lifecycle_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
	asker "banger.dev/banger/internal/client"
	"banger.dev/banger/internal/ipc"
	"banger.dev/banger/internal/monitor"
	"banger.dev/banger/internal/operation"
	"banger.dev/banger/internal/server"
	"banger.dev/banger/internal/server/servertest"
)

const (
	hammerClients = 20
	// hammerPatience is how long a request may take before it counts as stuck.
	hammerPatience = 2 * time.Minute
)

// States as facts name them; "" is no VM.
var (
	up       = []string{"running", "paused"}
	there    = []string{"creating", "stopped", "running", "paused"}
	anything = append([]string{""}, there...)
	gone     = []string{""}
	down     = []string{"stopped"}
	made     = []string{"creating"}
)

// hammer is a real server over a world in real time, and who hammers it.
type hammer struct {
	t        *testing.T
	w        *world
	ops      *operation.Registry[server.Result]
	history  history
	requests atomic.Int64
	oldest   sync.Map // client → when the request began that it waits for
	until    time.Time
}

// Twenty clients ask for every verb at random, over the socket. Nothing may
// hang, no answer may be one that cannot be, and at the end nothing is left.
func TestTwentyClients(t *testing.T) {
	t.Parallel()
	h := &hammer{t: t, w: newWorld(t, memoryDir(t)), until: time.Now().Add(randomTime(t))}
	h.w.memory = 1 << 50
	empty := h.w.String()
	stop := h.serve()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	stopDog := h.watchdog()
	var clients sync.WaitGroup
	for n := range hammerClients {
		c := h.connect(n, rand.New(rand.NewPCG(seed, uint64(n))))
		clients.Go(func() { c.work() })
	}
	last := h.connect(hammerClients, nil)
	following, unfollow := context.WithCancel(context.Background())
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		last.events(following)
	}()
	ends := rand.New(rand.NewPCG(seed, hammerClients))
	for time.Now().Before(h.until) {
		h.guestEnds(ends)
	}
	clients.Wait()
	unfollow()
	<-followed
	// Those who died may have left operations, which would make VMs yet.
	if err := h.ops.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	last.deleteAll()
	stopDog()
	stop()
	for _, wrong := range h.history.impossible() {
		t.Error(wrong)
	}
	h.w.Close()
	h.w.same(empty)
	h.w.end()
	t.Logf("%d requests of %d clients", h.requests.Load(), hammerClients)
}

// serve answers at the world's socket until stop is called, as the daemon does.
func (h *hammer) serve() (stop func()) {
	log := slog.New(slog.DiscardHandler)
	h.ops = operation.New[server.Result](log)
	srv := server.New(server.Config{
		VMs: h.w.Manager, Images: servertest.Images{}, Kernels: servertest.Kernels{}, Operations: h.ops,
		Events: h.w.events, Metrics: &servertest.Metrics{}, Stop: func() {}, Version: "hammered", PID: os.Getpid(), Since: time.Now(), Log: log,
	})
	l, err := ipc.Listen(h.w.layout.DaemonSocket())
	if err != nil {
		h.t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	return func() {
		if err := errors.Join(srv.Shutdown(context.Background()), <-served); err != nil {
			h.t.Error(err)
		}
	}
}

// watchdog shows all goroutines, and ends the test, when a request is stuck.
func (h *hammer) watchdog() (stop func()) {
	done := make(chan struct{})
	go func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			h.oldest.Range(func(who, begun any) bool {
				if time.Since(begun.(time.Time)) > hammerPatience {
					_ = pprof.Lookup("goroutine").WriteTo(os.Stderr, 2)
					panic(fmt.Sprintf("%v waits since %v", who, begun))
				}
				return true
			})
		}
	}()
	return func() { close(done) }
}

// VMs by how they are used: shared and ephemeral ones by clients that wait for
// their answers, so that these can be judged; lost ones also by clients that die,
// and guests that misbehave, so that only the kind of an answer can.
var (
	shared     = []string{"s-0", "s-1", "s-2", "s-3", "s-4"}
	ephemerals = []string{"e-0", "e-1"}
	lost       = []string{"l-0", "l-1"}
	all        = slices.Concat(shared, ephemerals, lost)
)

func isLost(name string) bool      { return strings.HasPrefix(name, "l-") }
func isEphemeral(name string) bool { return strings.HasPrefix(name, "e-") }

// guestEnds has some guest power off, or its monitor die, as both do by themselves.
func (h *hammer) guestEnds(r *rand.Rand) {
	time.Sleep(time.Duration(r.IntN(100)) * time.Millisecond)
	name := all[r.IntN(len(all))]
	begun := time.Now()
	m := h.w.host.named(name)
	if m == nil || !m.status().Ready {
		return
	}
	if r.IntN(2) == 0 {
		m.end(monitor.ReasonPoweroff, "the guest powered off")
		<-m.gone
	} else {
		m.kill()
	}
	h.learn(name, fact{who: "the guest ends", begun: begun, ended: time.Now(), passes: append(up, "stopped"), leaves: h.rest(name)})
}

// rest is what is left of a VM that has ended.
func (h *hammer) rest(name string) []string {
	if isEphemeral(name) {
		return []string{"", "stopped"} // whoever looks deletes it
	}
	return down
}

func (h *hammer) learn(name string, f fact) {
	if !isLost(name) {
		h.history.add(name, f)
	}
}

// hammerer is one client.
type hammerer struct {
	*hammer
	n    int
	rand *rand.Rand
	c    *asker.Client
}

func (h *hammer) connect(n int, r *rand.Rand) *hammerer {
	c, err := asker.Connect(context.Background(), h.w.layout, asker.Autostart{Disabled: true})
	if err != nil {
		h.t.Fatal(err)
	}
	return &hammerer{hammer: h, n: n, rand: r, c: c}
}

func (c *hammerer) work() {
	defer c.c.Close()
	verbs := []func(ctx context.Context, name string){
		c.create, c.create, c.create, c.start, c.start, c.restart, c.stop, c.kill, c.pause, c.resume, c.reset, c.commit, c.delete,
		c.set, c.set, c.prune, c.show, c.show, c.list, c.stats, c.wait, c.ports, c.logs, c.clock,
	}
	for time.Now().Before(c.until) {
		name := all[c.rand.IntN(len(all))]
		ctx, cancel := context.Background(), func() {}
		if isLost(name) {
			c.w.guest(name, []guest{{}, {deaf: true}, {hangs: true}, {panics: true}, {dies: true}, {boots: 50 * time.Millisecond}, {initNever: true}}[c.rand.IntN(7)])
			ctx, cancel = context.WithTimeout(ctx, time.Duration(c.rand.IntN(300))*time.Millisecond)
		}
		verbs[c.rand.IntN(len(verbs))](ctx, name)
		cancel()
	}
}

// asked does one request and says what was learned by it: by its success, or by
// the kind of its error. What is not in errs cannot be an answer.
func (c *hammerer) asked(ctx context.Context, verb, name string, ask func() (fact, error), errs map[banger.Kind]fact) {
	who := fmt.Sprintf("client %d: %s", c.n, verb)
	begun := time.Now()
	c.oldest.Store(c.n, begun)
	f, err := ask()
	c.oldest.Delete(c.n)
	c.requests.Add(1)
	if err != nil {
		kind := banger.KindOf(err)
		var known bool
		if f, known = errs[kind]; known && !isLost(name) && strings.Contains(err.Error(), context.DeadlineExceeded.Error()) {
			c.t.Errorf("%s of %s waited too long: %v", who, name, err)
			return
		} else if !known && !c.excused(ctx, name, err) {
			c.t.Errorf("%s of %s: %s: %v", who, name, kind, err)
			return
		}
		who = fmt.Sprintf("%s: %v", who, err)
	}
	f.who, f.begun, f.ended = who, begun, time.Now()
	c.learn(name, f)
}

// excused says whether an error comes of a client that died or a guest that
// misbehaves.
func (c *hammerer) excused(ctx context.Context, name string, err error) bool {
	if !isLost(name) {
		return false
	}
	return ctx.Err() != nil || strings.Contains(err.Error(), "did not start") || strings.Contains(err.Error(), "ended before it was ready") ||
		strings.Contains(err.Error(), "guest is not ready")
}

func (c *hammerer) create(ctx context.Context, name string) {
	req := api.CreateRequest{Name: name, Spec: spec(), Leash: c.rand.IntN(2) == 0}
	req.Spec.Ephemeral = isEphemeral(name)
	ok := fact{saw: gone, passes: made, leaves: down}
	if req.Spec.Ephemeral || c.rand.IntN(2) == 0 {
		req.Start = &api.StartRequest{}
		ok = fact{saw: gone, passes: []string{"creating", "stopped"}, leaves: []string{"running"}}
	}
	failed := fact{passes: anything, leaves: append(c.rest(name), ""), doubtful: true}
	c.asked(ctx, "create", name, func() (fact, error) {
		op, err := c.c.CreateVM(ctx, req, nil)
		if err == nil && (op.Result == nil || op.Result.Name != name) {
			c.t.Errorf("create of %s made %+v", name, op.Result)
		}
		return ok, err
	}, map[banger.Kind]fact{
		banger.KindConflict: {saw: there}, banger.KindCancelled: failed, banger.KindInternal: failed,
	})
}

func (c *hammerer) start(ctx context.Context, name string) {
	failed := fact{passes: append(up, "stopped"), leaves: c.rest(name), doubtful: true}
	c.asked(ctx, "start", name, func() (fact, error) {
		op, err := c.c.StartVM(ctx, name, api.StartRequest{}, nil)
		if op.Changed {
			return fact{saw: down, passes: down, leaves: []string{"running"}}, err
		}
		return fact{saw: []string{"running"}}, err
	}, map[banger.Kind]fact{
		// Started by somebody else and ended meanwhile, or started and ended.
		banger.KindNotFound: {saw: gone}, banger.KindConflict: {saw: []string{"creating", "paused"}}, banger.KindCancelled: failed, banger.KindInternal: failed,
		banger.KindUnavailable: {saw: up},
	})
}

func (c *hammerer) stop(ctx context.Context, name string) {
	c.asked(ctx, "stop", name, func() (fact, error) {
		reply, err := c.c.StopVM(ctx, name, api.StopRequest{TimeoutMS: 1 + c.rand.Int64N(500)})
		return c.ended(name, reply, err)
	}, map[banger.Kind]fact{banger.KindNotFound: {saw: gone}, banger.KindConflict: {saw: made}})
}

func (c *hammerer) kill(ctx context.Context, name string) {
	c.asked(ctx, "kill", name, func() (fact, error) {
		reply, err := c.c.KillVM(ctx, name)
		return c.ended(name, reply, err)
	}, map[banger.Kind]fact{banger.KindNotFound: {saw: gone}, banger.KindConflict: {saw: made}})
}

func (c *hammerer) restart(ctx context.Context, name string) {
	failed := fact{passes: append(up, "stopped"), leaves: c.rest(name), doubtful: true}
	c.asked(ctx, "restart", name, func() (fact, error) {
		_, err := c.c.RestartVM(ctx, name, api.RestartRequest{}, nil)
		return fact{saw: append(up, "stopped"), passes: append(up, "stopped"), leaves: []string{"running"}}, err
	}, map[banger.Kind]fact{
		banger.KindNotFound: {saw: gone}, banger.KindConflict: c.refused(name, made...), banger.KindCancelled: failed, banger.KindInternal: failed,
	})
}

// refused is what is learned by a conflict: an ephemeral VM is refused some verbs
// whatever it does.
func (c *hammerer) refused(name string, saw ...string) fact {
	if isEphemeral(name) {
		return fact{saw: there}
	}
	return fact{saw: saw}
}

func (c *hammerer) pause(ctx context.Context, name string) {
	c.asked(ctx, "pause", name, func() (fact, error) {
		reply, err := c.c.PauseVM(ctx, name)
		if !reply.Changed {
			return fact{saw: []string{"paused"}}, err
		}
		return fact{saw: []string{"running"}, passes: []string{"running"}, leaves: []string{"paused"}}, err
	}, map[banger.Kind]fact{
		banger.KindNotFound: {saw: gone}, banger.KindConflict: {saw: []string{"creating", "stopped", "running"}}, // running, but still booting
		banger.KindUnavailable: {saw: up}, // it ended while it was asked
	})
}

func (c *hammerer) resume(ctx context.Context, name string) {
	c.asked(ctx, "resume", name, func() (fact, error) {
		reply, err := c.c.ResumeVM(ctx, name)
		if !reply.Changed {
			return fact{saw: []string{"running"}}, err
		}
		return fact{saw: []string{"paused"}, passes: []string{"paused"}, leaves: []string{"running"}}, err
	}, map[banger.Kind]fact{
		banger.KindNotFound: {saw: gone}, banger.KindConflict: {saw: []string{"creating", "stopped"}},
		banger.KindUnavailable: {saw: up}, // it ended while it was asked
	})
}

func (c *hammerer) reset(ctx context.Context, name string) {
	req := api.ResetRequest{Force: c.rand.IntN(2) == 0}
	c.asked(ctx, fmt.Sprint("reset, force: ", req.Force), name, func() (fact, error) {
		_, err := c.c.ResetVM(ctx, name, req, nil)
		return fact{saw: append(up, "stopped"), passes: append(up, "stopped"), leaves: down}, err
	}, map[banger.Kind]fact{banger.KindNotFound: {saw: gone}, banger.KindConflict: c.refused(name, "creating", "running", "paused"), banger.KindCancelled: {}})
}

func (c *hammerer) commit(ctx context.Context, name string) {
	c.asked(ctx, "commit", name, func() (fact, error) {
		_, err := c.c.CommitImage(ctx, name, api.CommitRequest{Name: "mine"}, nil)
		return fact{saw: []string{"stopped"}}, err
	}, map[banger.Kind]fact{banger.KindNotFound: {saw: gone}, banger.KindConflict: {saw: append(up, "creating")}, banger.KindCancelled: {}})
}

func (c *hammerer) wait(ctx context.Context, name string) {
	c.asked(ctx, "wait", name, func() (fact, error) {
		reply, err := c.c.WaitVM(ctx, name, "stopped", time.Duration(1+c.rand.IntN(300))*time.Millisecond)
		if !reply.Reached {
			return fact{saw: there}, err
		}
		return fact{saw: []string{"", "stopped"}}, err
	}, map[banger.Kind]fact{banger.KindNotFound: {saw: gone}})
}

// ended is what a stop or a kill says. Kill also ends what is only being started.
func (c *hammerer) ended(name string, reply api.VerbReply, err error) (fact, error) {
	if err == nil && !isLost(name) && reply.VM.State != banger.StateStopped {
		c.t.Errorf("%s has been ended and is %s: %s", name, reply.VM.State, reply.VM.Reason)
	}
	if !reply.Changed {
		return fact{saw: c.rest(name)}, err
	}
	return fact{saw: append(up, "stopped"), passes: append(up, "stopped"), leaves: c.rest(name)}, err
}

func (c *hammerer) delete(ctx context.Context, name string) {
	force := c.rand.IntN(2) == 0
	ok := fact{saw: there, passes: anything, leaves: gone}
	errs := map[banger.Kind]fact{banger.KindNotFound: {saw: gone}}
	if !force {
		ok.saw, errs[banger.KindConflict] = []string{"creating", "stopped"}, fact{saw: up}
	}
	c.asked(ctx, fmt.Sprint("delete, force: ", force), name, func() (fact, error) {
		_, err := c.c.DeleteVM(ctx, name, force)
		return ok, err
	}, errs)
}

// set changes labels at any time, or begins the system disk of a stopped VM anew.
func (c *hammerer) set(ctx context.Context, name string) {
	n := fmt.Sprint(c.n)
	req, ok, refused := api.SetRequest{Labels: map[string]*string{"n": &n}}, fact{saw: append(up, "stopped")}, fact{saw: made}
	if c.rand.IntN(2) == 0 {
		req, ok, refused = api.SetRequest{Image: ptr("debian")}, fact{saw: down}, fact{saw: append(up, "creating")}
	}
	c.asked(ctx, fmt.Sprint("set, image: ", req.Image != nil), name, func() (fact, error) {
		_, err := c.c.SetVM(ctx, name, req, nil)
		return ok, err
	}, map[banger.Kind]fact{banger.KindNotFound: {saw: gone}, banger.KindConflict: refused, banger.KindCancelled: {}})
}

func (c *hammerer) stats(ctx context.Context, name string) {
	c.asked(ctx, "stats", name, func() (fact, error) {
		rows, err := c.c.Stats(ctx, []string{name})
		if err != nil || len(rows) == 0 { // it was deleted meanwhile
			return fact{saw: gone}, err
		}
		return fact{saw: []string{string(rows[0].State)}}, nil
	}, map[banger.Kind]fact{banger.KindNotFound: {saw: gone}})
}

// prune deletes what it sees stopped, by id, as the command line does: another VM
// may have the name by then.
func (c *hammerer) prune(ctx context.Context, _ string) {
	vms, err := c.c.ListVMs(context.Background())
	if err != nil {
		c.t.Errorf("prune: %v", err)
	}
	for _, vm := range vms {
		if vm.State != banger.StateStopped {
			continue
		}
		c.asked(ctx, "prune", vm.Name, func() (fact, error) {
			_, err := c.c.DeleteVM(context.Background(), vm.ID, false)
			return fact{saw: down, passes: anything, leaves: gone}, err
		}, map[banger.Kind]fact{banger.KindNotFound: {}, banger.KindConflict: {saw: up}})
	}
}

func (c *hammerer) show(ctx context.Context, name string) {
	c.asked(ctx, "show", name, func() (fact, error) {
		d, err := c.c.ShowVM(ctx, name)
		return fact{saw: []string{string(d.State)}}, err
	}, map[banger.Kind]fact{banger.KindNotFound: {saw: gone}})
}

func (c *hammerer) list(ctx context.Context, name string) {
	begun := time.Now()
	c.asked(ctx, "list", name, func() (fact, error) {
		vms, err := c.c.ListVMs(ctx)
		if err != nil {
			return fact{}, err
		}
		states := map[string]string{}
		for _, vm := range vms {
			if _, twice := states[vm.Name]; twice || !slices.Contains(all, vm.Name) {
				c.t.Errorf("list has %s, which nobody made, or twice", vm.Name)
			}
			states[vm.Name] = string(vm.State)
		}
		for _, name := range all {
			c.learn(name, fact{who: fmt.Sprintf("client %d: list", c.n), begun: begun, ended: time.Now(), saw: []string{states[name]}})
		}
		return fact{}, nil
	}, nil)
}

func (c *hammerer) ports(ctx context.Context, name string) {
	add := c.rand.IntN(2) == 0
	port := banger.Port{HostIP: "127.0.0.1", HostPort: 20000 + 16*c.n + slices.Index(all, name), GuestPort: 80, Protocol: "tcp"}
	c.asked(ctx, fmt.Sprint("ports, add: ", add), name, func() (fact, error) {
		if add {
			_, err := c.c.AddPorts(ctx, name, []banger.Port{port})
			return fact{saw: there}, err
		}
		_, err := c.c.RemovePorts(ctx, name, []string{fmt.Sprintf("%d/tcp", port.HostPort)})
		return fact{saw: there}, err
	}, map[banger.Kind]fact{banger.KindNotFound: {}, banger.KindConflict: {saw: there}})
}

func (c *hammerer) logs(ctx context.Context, name string) {
	c.asked(ctx, "logs", name, func() (fact, error) {
		text, err := c.c.LogsVM(ctx, name, asker.LogOptions{Tail: c.rand.IntN(3) - 1, Follow: isLost(name)})
		if err != nil {
			return fact{}, err
		}
		defer text.Close()
		for err == nil {
			_, err = text.Next()
		}
		if errors.Is(err, io.EOF) || ctx.Err() != nil {
			err = nil
		}
		return fact{saw: there}, err
	}, map[banger.Kind]fact{banger.KindNotFound: {saw: gone}})
}

func (c *hammerer) clock(ctx context.Context, name string) {
	c.asked(ctx, "clock", name, func() (fact, error) {
		_, err := c.w.SetClock(ctx, name)
		return fact{saw: []string{"running"}}, err
	}, map[banger.Kind]fact{
		banger.KindNotFound: {saw: gone}, banger.KindConflict: {saw: []string{"creating", "stopped", "paused"}},
		banger.KindUnavailable: {saw: up}, // it ended while it was asked
	})
}

// events follows what happens until ctx ends.
func (c *hammerer) events(ctx context.Context) {
	stream, err := c.c.Events(ctx, -1, banger.EventFilter{}, true)
	if err != nil {
		c.t.Error(err)
		return
	}
	defer stream.Close()
	for last := int64(0); ; {
		e, err := stream.Next()
		if err != nil {
			if ctx.Err() == nil {
				c.t.Errorf("the events end: %v", err)
			}
			return
		}
		if e.ID <= last {
			c.t.Errorf("event %d came after %d", e.ID, last)
		}
		last = e.ID
	}
}

func (c *hammerer) deleteAll() {
	defer c.c.Close()
	vms, err := c.c.ListVMs(context.Background())
	if err != nil {
		c.t.Error(err)
	}
	for _, vm := range vms {
		if _, err := c.c.DeleteVM(context.Background(), vm.Name, true); err != nil && banger.KindOf(err) != banger.KindNotFound {
			c.t.Errorf("delete of %s at the end: %v", vm.Name, err)
		}
	}
}
