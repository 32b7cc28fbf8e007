package client

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
	"banger.dev/banger/internal/version"
)

// built has the home's programs be of a build of that time.
func (h *home) built(at int64) {
	h.auto.Build = version.Build{Time: at}
	h.auto.Environ = append(h.auto.Environ[:len(h.auto.Environ):len(h.auto.Environ)], standIn+"_TIME="+strconv.FormatInt(at, 10))
}

func TestOlderDaemonIsReplacedOnce(t *testing.T) {
	h := newHome(t, "serve")
	h.built(100)
	old := h.connect()
	before, err := old.Ping(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	h.built(200)
	pids := make(chan int)
	for range 20 {
		go func() {
			c, err := Connect(t.Context(), h.layout, h.auto)
			if err != nil {
				t.Error(err)
				pids <- 0
				return
			}
			defer c.Close()
			ping, err := c.Ping(t.Context())
			if err != nil || ping.Build.Time != 200 {
				t.Errorf("%+v, %v", ping, err)
			}
			pids <- ping.PID
		}()
	}
	first := <-pids
	for range 19 {
		if pid := <-pids; pid != first {
			t.Errorf("daemons %d and %d", first, pid)
		}
	}
	if n := strings.Count(h.said(), "started with"); n != 2 || first == before.PID {
		t.Errorf("%d were started, %d and %d", n, before.PID, first)
	}
	// An older program than the daemon says what to do and replaces nothing.
	h.built(100)
	_, err = Connect(t.Context(), h.layout, h.auto)
	wantError(t, err, banger.KindUnavailable, "is newer than this banger", "banger daemon stop")
}

// What is under way is waited for, and the user is told.
func TestBusyDaemonIsNotReplaced(t *testing.T) {
	h := newHome(t, "hold")
	h.built(100)
	old := h.connect()
	op, err := ask[api.Operation](t.Context(), old, request{method: "POST", path: api.RouteVMs, body: api.CreateRequest{Name: "box"}})
	if err != nil {
		t.Fatal(err)
	}
	h.built(200)
	told := make(chan string, 1)
	h.auto.Remark = func(s string) { told <- s }
	got := make(chan error)
	go func() {
		c, err := Connect(t.Context(), h.layout, h.auto)
		if err == nil {
			c.Close()
		}
		got <- err
	}()
	if said := <-told; !strings.Contains(said, "older daemon is at work") {
		t.Errorf("said %q", said)
	}
	if _, err := ask[api.Operation](t.Context(), old, request{method: "DELETE", path: operationPath(api.RouteOperation, op.ID)}); err != nil {
		t.Error(err)
	}
	if err := <-got; err != nil {
		t.Error(err)
	}
}

func TestProgramOlderThanThis(t *testing.T) {
	h := newHome(t, "serve")
	h.built(100)
	h.auto.Build = version.Build{Time: 200}
	_, err := Connect(t.Context(), h.layout, h.auto)
	wantError(t, err, banger.KindUnavailable, "is of an older build than this banger", "make build")
}

// A client that was there before a daemon ended asks the next one, and knows
// nothing of the change.
func TestNextDaemonIsAsked(t *testing.T) {
	h := newHome(t, "serve")
	c := h.connect()
	for range 10 {
		stopper, err := Connect(t.Context(), h.layout, Autostart{Disabled: true})
		if err != nil {
			t.Fatal(err)
		}
		stopped := make(chan error)
		go func() { stopped <- stopper.StopDaemon(t.Context()) }()
		// Whenever it comes in the daemon's end: it is answered.
		if _, err := c.ListVMs(t.Context()); err != nil {
			t.Error(err)
		}
		if _, err := c.StopVM(t.Context(), "absent", api.StopRequest{}); banger.KindOf(err) != banger.KindNotFound {
			t.Error(err)
		}
		if err := <-stopped; err != nil {
			t.Error(err)
		}
		if _, err := c.ListVMs(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// A client that comes just when the daemon leaves is served, by this one or by
// the next.
func TestDaemonThatLeaves(t *testing.T) {
	h := newHome(t, "brief")
	for n := range 60 {
		c, err := Connect(t.Context(), h.layout, h.auto)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(n%8) * 5 * time.Millisecond)
		if _, err := c.StopVM(t.Context(), "absent", api.StopRequest{}); banger.KindOf(err) != banger.KindNotFound {
			t.Error(err)
		}
		c.Close()
	}
	if n := strings.Count(h.said(), "started with"); n < 2 {
		t.Errorf("no daemon has left: %d were started", n)
	}
}

func TestDaemonThatStandsStill(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the daemon's answer in vain")
	}
	h := newHome(t, "serve")
	ping, err := h.connect().Ping(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(ping.PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for { // each of its threads stops when it is next looked at
		stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", ping.PID))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(stats, func(name string) bool {
			stat, err := os.ReadFile(name)
			return err == nil && !strings.Contains(string(stat), ") T ")
		}) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	_, err = Connect(t.Context(), h.layout, h.auto)
	wantError(t, err, banger.KindUnavailable, "does not answer", "kill -KILL "+strconv.Itoa(ping.PID))
	if err := syscall.Kill(ping.PID, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	h.connect()
}
