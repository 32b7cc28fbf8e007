package crashtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
	"banger.dev/banger/internal/client"
	"banger.dev/banger/internal/daemon/fault"
	"banger.dev/banger/internal/monitor"
	"banger.dev/banger/internal/paths"
	"banger.dev/banger/internal/proc"
	"banger.dev/banger/internal/publish"
)

// bystander is a VM that runs through everything and must not notice.
const bystander = "bystander"

// world is what a home's VMs run on.
type world struct {
	bangerd string      // the program
	cache   string      // shared; "": each home has its own, with small things in it
	spec    banger.Spec // of the VMs
	// registry is the address of one on loopback.
	registry string
	// brief is a time for a boot in which none succeeds; 0: the guest's name says
	// that it cannot boot.
	brief time.Duration
}

// fake is the world of vmmtest's VMM: this program is its bangerd.
func fake(t *testing.T) world {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return world{bangerd: self, spec: small(), registry: startRegistry(t)}
}

// home is a BANGER_HOME, the daemons that serve it one after the other, and a
// VM that runs in it.
type home struct {
	world
	dir    string
	layout paths.Layout
	faults fault.Dir
	temp   string // $TMPDIR of all its processes
	auto   client.Autostart
	other  banger.Detail // the bystander as it was at first
	before []string      // the inventory with nothing but the bystander
	port   int           // one of the host's for the verbs on ports
}

func newHome(t *testing.T, w world) *home {
	t.Helper()
	dir, err := os.MkdirTemp("", "crash") // t.TempDir is long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	h := &home{world: w, dir: filepath.Join(dir, "h"), faults: fault.Dir(filepath.Join(dir, "f")), temp: filepath.Join(dir, "t")}
	t.Cleanup(func() {
		if err := h.end(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the daemon's log is in %s", h.layout.DaemonLog())
			return
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := h.open(); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *home) open() error {
	env := map[string]string{"BANGER_HOME": h.dir, "BANGER_CACHE": h.cache, fault.Variable: string(h.faults), "HOME": h.dir, "TMPDIR": h.temp}
	h.auto = client.Autostart{Binary: h.bangerd}
	for name, value := range env {
		h.auto.Environ = append(h.auto.Environ, name+"="+value)
	}
	var err error
	if h.layout, err = paths.FromEnv(func(name string) string { return env[name] }); err != nil {
		return err
	}
	for _, dir := range []string{string(h.faults), h.temp} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	if h.cache == "" {
		if err := fillCache(h.layout.Cache); err != nil {
			return err
		}
	}
	if err := h.makeFileSystem(); err != nil {
		return err
	}
	if h.port, err = publish.Free(banger.Port{HostIP: "127.0.0.1", Protocol: "tcp"}); err != nil {
		return err
	}
	if err := h.create(bystander, h.spec, &api.StartRequest{}); err != nil {
		return err
	}
	if h.other, err = h.show(bystander); err != nil {
		return err
	}
	// A monitor writes down how a boot went a moment after it was ready.
	err = eventually(func() error {
		_, err := os.Stat(h.layout.VM(h.other.ID).Metrics())
		return err
	})
	if err != nil {
		return err
	}
	h.before, err = h.inventory()
	return err
}

// end deletes the bystander, ends the daemon, and says what is left then.
func (h *home) end() error {
	err := errors.Join(h.faults.Disarm(), h.delete(bystander, true))
	_, stopped := ask(h, func(ctx context.Context, c *client.Client) (struct{}, error) { return struct{}{}, c.StopDaemon(ctx) })
	return errors.Join(err, stopped, eventually(func() error {
		processes, err := h.processes()
		files, other := h.temporary()
		if left := append(processes, files...); len(left) > 0 {
			return fmt.Errorf("still there when all has ended: %v", left)
		}
		return errors.Join(err, other)
	}))
}

// ask puts a question to the daemon, starting one if none runs.
func ask[T any](h *home, question func(context.Context, *client.Client) (T, error)) (T, error) {
	return within(func(ctx context.Context) (T, error) {
		c, err := client.Connect(ctx, h.layout, h.auto)
		if err != nil {
			var none T
			return none, fmt.Errorf("no daemon: %w", err)
		}
		defer c.Close()
		return question(ctx, c)
	})
}

// do is ask for a verb of whose reply nothing is of interest.
func do[T any](h *home, verb func(context.Context, *client.Client) (T, error)) error {
	_, err := ask(h, verb)
	return err
}

func (h *home) create(name string, spec banger.Spec, start *api.StartRequest) error {
	return do(h, func(ctx context.Context, c *client.Client) (api.Operation, error) {
		return c.CreateVM(ctx, api.CreateRequest{Name: name, Spec: spec, Start: start}, nil)
	})
}

// start gives the boot so much time; 0 is enough.
func (h *home) start(name string, timeout time.Duration) error {
	return do(h, func(ctx context.Context, c *client.Client) (api.Operation, error) {
		return c.StartVM(ctx, name, api.StartRequest{TimeoutMS: timeout.Milliseconds()}, nil)
	})
}

func (h *home) delete(name string, force bool) error {
	return do(h, func(ctx context.Context, c *client.Client) (api.VerbReply, error) {
		return c.DeleteVM(ctx, name, force)
	})
}

func (h *home) list() ([]banger.VM, error) {
	return ask(h, func(ctx context.Context, c *client.Client) ([]banger.VM, error) { return c.ListVMs(ctx) })
}

func (h *home) show(name string) (banger.Detail, error) {
	return ask(h, func(ctx context.Context, c *client.Client) (banger.Detail, error) { return c.ShowVM(ctx, name) })
}

// daemonPID is the daemon's that runs; none is started. One that dies while it is
// asked is asked again, and then there is none.
func (h *home) daemonPID() (pid int, err error) {
	err = eventually(func() error {
		pid, err = h.askPID()
		return err
	})
	return pid, err
}

func (h *home) askPID() (int, error) {
	return within(func(ctx context.Context) (int, error) {
		c, err := client.Connect(ctx, h.layout, client.Autostart{Disabled: true})
		if errors.Is(err, client.ErrNotRunning) {
			return 0, nil
		}
		if err != nil {
			return 0, err
		}
		defer c.Close()
		ping, err := c.Ping(ctx)
		if errors.Is(err, client.ErrNotRunning) { // it has just died
			return 0, nil
		}
		return ping.PID, err
	})
}

// killDaemon ends the daemon by SIGKILL, if it runs.
func (h *home) killDaemon() error {
	pid, err := h.daemonPID()
	if err != nil || pid == 0 {
		return err
	}
	start, err := proc.StartTime(pid)
	if err != nil {
		return err
	}
	return proc.Kill(pid, start, patience)
}

// alive says whether a VM's monitor or VMM is, asked of nobody but the kernel.
func (h *home) alive(id string) (bool, error) { return monitor.Held(h.layout.VM(id).Lock()) }
