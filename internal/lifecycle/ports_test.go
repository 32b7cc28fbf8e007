package lifecycle_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"banger.dev/banger"
	"banger.dev/banger/internal/lifecycle"
	"banger.dev/banger/internal/monitor"
)

// hostPorts is which ports of the host are taken: by processes, and by the live
// machines of a host.
type hostPorts struct {
	host *host

	mu     sync.Mutex
	others []banger.Port
	free   int
}

func (h *hostPorts) take(ports ...banger.Port) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.others = append(h.others, ports...)
}

// Probe implements lifecycle.Ports.
func (h *hostPorts) Probe(p banger.Port) error {
	taken := h.host.published()
	h.mu.Lock()
	defer h.mu.Unlock()
	if slices.ContainsFunc(slices.Concat(taken, h.others), p.Overlaps) {
		return banger.Errorf(banger.KindConflict, "%s is in use by nc (pid 7)", p.Host())
	}
	return nil
}

// Free implements lifecycle.Ports.
func (h *hostPorts) Free(banger.Port) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.free++
	return 40000 + h.free, nil
}

func (h *host) published() []banger.Port {
	var all []banger.Port
	for _, m := range h.all() {
		all = append(all, m.ports()...)
	}
	return all
}

func (m *machine) ports() []banger.Port {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.order.Publish)
}

// SyncPorts implements lifecycle.Monitor.
func (c client) SyncPorts(ctx context.Context, ports []banger.Port) error {
	m, err := c.dial(ctx)
	if err != nil {
		return err
	}
	if m.guest.refuses != nil {
		return m.guest.refuses
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.order.Publish = slices.Clone(ports)
	return nil
}

func ports(t testing.TB, words ...string) []banger.Port {
	t.Helper()
	var all []banger.Port
	for _, w := range words {
		p, err := banger.ParsePorts(w)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p...)
	}
	return all
}

func publishing(t testing.TB, words ...string) banger.Spec {
	s := spec()
	s.Publish = ports(t, words...)
	return s
}

func (w *world) runPublishing(name string, words ...string) {
	w.t.Helper()
	if _, err := w.Create(context.Background(), name, publishing(w.t, words...), &lifecycle.StartOptions{}, nil); err != nil {
		w.t.Fatal(err)
	}
}

// wantPorts fails the test unless row, list and, where it lives, the monitor
// agree on the ports.
func (w *world) wantPorts(name string, words ...string) {
	w.t.Helper()
	want := ports(w.t, words...)
	if got := w.row(name).Spec.Publish; !slices.Equal(got, want) {
		w.t.Errorf("the row of %s has %v, want %v", name, got, want)
	}
	if d, err := w.Show(context.Background(), name); err != nil || d.Ports == nil || !slices.Equal(d.Ports, want) {
		w.t.Errorf("show says that %s publishes %v (%v), want %v", name, d.Ports, err, want)
	}
	if m := w.host.named(name); m != nil && !slices.Equal(m.ports(), want) {
		w.t.Errorf("the monitor of %s listens on %v, want %v", name, m.ports(), want)
	}
}

func TestAPortInUseIsNamedAndNothingIsMade(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.runPublishing("web", "8080:80")
		w.taken.take(ports(t, "53:53/udp")...)
		before := w.String()
		for words, s := range map[string]banger.Spec{
			"VM web":  publishing(t, "0.0.0.0:8080:81"),
			"pid 7":   publishing(t, "1:1", "53:5353/udp"),
			"already": publishing(t, "1:1", "1:2"),
		} {
			for _, start := range []*lifecycle.StartOptions{nil, {}} {
				_, err := w.Create(context.Background(), "db", s, start, nil)
				want := banger.KindConflict
				if words == "already" {
					want = banger.KindInvalid
				}
				wantKind(t, err, want)
				wantWords(t, err.Error(), words)
			}
		}
		w.same(before)
		w.runPublishing("other", "8080:80/udp") // another protocol is another port
	})
}

func TestAFreePortIsChosenAtCreate(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.runPublishing("web", "80", "40001:81")
		w.wantPorts("web", "40002:80", "40001:81")
		w.stop("web")
		w.wantPorts("web", "40002:80", "40001:81")
	})
}

func (w *world) stop(name string) {
	w.t.Helper()
	if _, _, err := w.Kill(context.Background(), name); err != nil {
		w.t.Fatal(err)
	}
}

func TestPortsOfAStoppedVMThatAreTakenFailItsStart(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.runPublishing("web", "8080:80")
		w.stop("web")
		w.runPublishing("other", "8080:80")
		_, _, err := w.Start(context.Background(), "web", lifecycle.StartOptions{}, nil)
		wantKind(t, err, banger.KindConflict)
		wantWords(t, err.Error(), "8080", "VM other")
		wantWords(t, banger.NextOf(err), "banger vm port remove other 8080/tcp")
		w.wantState("web", "stopped")
	})
}

func TestPortsAreAddedAndRemoved(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.create("cold")
		w.run("warm")
		for i, name := range []string{"cold", "warm"} {
			base := []string{"1080:80", "2080:80"}[i]
			vm, out, err := w.AddPorts(context.Background(), name, ports(t, base, "90/udp"))
			if err != nil || !out.Changed || len(vm.Ports) != 2 {
				t.Fatalf("%+v %+v %v", vm.Ports, out, err)
			}
			free := vm.Ports[1].String()
			w.wantPorts(name, base, free)
			if _, out, err := w.AddPorts(context.Background(), name, ports(t, base)); err != nil || out.Changed {
				t.Errorf("the same again: %+v %v", out, err)
			}
			_, _, err = w.AddPorts(context.Background(), name, ports(t, "3:3", "0.0.0.0:"+base))
			wantKind(t, err, banger.KindConflict)
			w.wantPorts(name, base, free)
			gone, _ := banger.ParsePublished("9")
			_, _, err = w.RemovePorts(context.Background(), name, gone)
			wantKind(t, err, banger.KindNotFound)
			if gone, err = banger.ParsePublished(base); err != nil {
				t.Fatal(err)
			}
			if _, out, err := w.RemovePorts(context.Background(), name, gone); err != nil || !out.Changed {
				t.Errorf("%+v %v", out, err)
			}
			w.wantPorts(name, free)
		}
		if _, _, err := w.Start(context.Background(), "cold", lifecycle.StartOptions{}, nil); err != nil {
			t.Fatal(err)
		}
		w.wantPorts("cold", w.row("cold").Spec.Publish[0].String())
	})
}

func TestAMonitorThatRefusesPutsTheRowBack(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.guest("old", guest{refuses: monitor.ErrOld})
		w.guest("full", guest{refuses: banger.Errorf(banger.KindConflict, "127.0.0.1:5 is in use")})
		for name, want := range map[string]banger.Kind{"old": banger.KindUnavailable, "full": banger.KindConflict} {
			w.runPublishing(name)
			_, _, err := w.AddPorts(context.Background(), name, ports(t, "5:5"))
			wantKind(t, err, want)
			w.wantPorts(name)
		}
	})
}

// Whatever step the daemon dies before, the next one brings row and monitor
// together; a step that fails leaves all as it was.
func TestFaultsOfPorts(t *testing.T) {
	for _, step := range []string{"port.row", "port.monitor"} {
		t.Run(step, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.runPublishing("web", "8080:80")
				w.failAt(step)
				if _, _, err := w.AddPorts(context.Background(), "web", ports(t, "9090:90")); !errors.Is(err, errFault) {
					t.Error(err)
				}
				w.wantPorts("web", "8080:80")
				w.dieAt(step)
				r := <-begin(func() (r result) {
					r.vm, r.out, r.err = w.AddPorts(context.Background(), "web", ports(t, "9090:90"))
					return r
				})
				if !r.died {
					t.Errorf("%+v", r)
				}
				w.failAt("")
				if err := w.restart(); err != nil {
					t.Error(err)
				}
				if step == "port.row" {
					w.wantPorts("web", "8080:80")
				} else {
					w.wantPorts("web", "8080:80", "9090:90")
				}
			})
		})
	}
}

// A running VM whose ports the next daemon cannot publish says so, until it can.
func TestPortsThatTheNextDaemonCannotPublish(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.runPublishing("web", "8080:80")
		w.machine("web").guest.refuses = banger.Errorf(banger.KindConflict, "127.0.0.1:8080 is in use")
		if err := w.restart(); err != nil {
			t.Fatal(err)
		}
		if d, err := w.Show(t.Context(), "web"); err != nil || d.State != banger.StateRunning || !strings.Contains(d.Reason, "8080 is in use") {
			t.Errorf("show says %s, %q (%v)", d.State, d.Reason, err)
		}
		list, err := w.db.Events(t.Context(), owner, 0, banger.EventFilter{Types: []banger.EventType{banger.EventPortRefused}}, 10)
		if err != nil || len(list) != 1 || !strings.Contains(list[0].Reason, "8080 is in use") {
			t.Errorf("events: %+v (%v)", list, err)
		}
		w.machine("web").guest.refuses = nil
		if _, _, err := w.AddPorts(t.Context(), "web", ports(t, "9090:90")); err != nil {
			t.Fatal(err)
		}
		if d, err := w.Show(t.Context(), "web"); err != nil || d.Reason != "" {
			t.Errorf("afterwards show says %q (%v)", d.Reason, err)
		}
	})
}

// What was published, and is no more, is told; what changes nothing is not.
func TestEventsOfPorts(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var after int64
		w.runPublishing("web", "8080:80")
		w.told(&after)
		for range 2 {
			if _, _, err := w.AddPorts(t.Context(), "web", ports(t, "[::1]:53:53/udp")); err != nil {
				t.Fatal(err)
			}
		}
		if _, _, err := w.RemovePorts(t.Context(), "web", ports(t, "8080:80")); err != nil {
			t.Fatal(err)
		}
		w.taken.take(ports(t, "9:9")...)
		if _, _, err := w.AddPorts(t.Context(), "web", ports(t, "9:9")); err == nil {
			t.Fatal("port 9 was free")
		}
		list, err := w.db.Events(t.Context(), owner, after, banger.EventFilter{}, 10)
		if err != nil {
			t.Fatal(err)
		}
		var said []string
		for _, e := range list {
			said = append(said, fmt.Sprint(e.Type, " ", e.VM, " ", e.Detail["host"], " ", e.Detail["guest"]))
		}
		if want := []string{"port.added web [::1]:53 53/udp", "port.removed web 127.0.0.1:8080 80/tcp"}; !slices.Equal(said, want) {
			t.Errorf("%q", said)
		}
	})
}

func TestPortsOfAVMThatIsJustEndingAreThoseOfItsNextStart(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.run("a")
		m := w.machine("a")
		m.end(monitor.ReasonPoweroff, "the guest powered off")
		<-m.done // its sockets are closed, its lock is held
		if _, out, err := w.AddPorts(t.Context(), "a", ports(t, "8080:80")); err != nil || !out.Changed {
			t.Errorf("%+v, %v", out, err)
		}
		if got := w.row("a").Spec.Publish; len(got) != 1 {
			t.Errorf("row: %+v", got)
		}
	})
}
