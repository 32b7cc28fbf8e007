package lifecycle_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"banger.dev/banger"
	"banger.dev/banger/internal/lifecycle"
	"banger.dev/banger/internal/monitor"
)

// model is what must be so whatever happened: which VMs there are, and which of
// them may be gone because they are ephemeral.
type model struct {
	w  *world
	vm map[string]bool // name → ephemeral
}

var randomNames = []string{"a", "b", "c"}

func TestWhateverHappensTheRulesHold(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		// Without the Deadline of a testing.T, which a bubble does not have.
		rapid.Check(struct{ testing.TB }{t}, func(rt *rapid.T) {
			w.empty()
			m := &model{w: w, vm: map[string]bool{}}
			rt.Repeat(map[string]func(*rapid.T){
				"":       m.check,
				"create": m.create, "start": m.start, "stop": m.stop, "kill": m.kill, "delete": m.delete,
				"restart": m.restart, "pause": m.pause, "resume": m.resume, "reset": m.reset,
				"two at once": m.twoAtOnce, "fault": m.fault, "guest": m.guest, "daemon dies": m.daemonDies,
				"it ends": m.itEnds, "monitor dies": m.monitorDies, "host reboots": m.hostReboots,
			})
		})
	})
}

// empty ends and deletes everything.
func (w *world) empty() {
	w.t.Helper()
	w.Close()
	w.setFault(nil)
	w.host.killAll()
	w.boot()
	list, err := w.List(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, vm := range list {
		w.delete(vm.Name)
	}
	for _, name := range randomNames {
		w.guest(name, guest{})
	}
}

func name(rt *rapid.T) string { return rapid.SampledFrom(randomNames).Draw(rt, "name") }

// look is list, by name.
func (m *model) look(rt *rapid.T) map[string]banger.VM {
	list, err := m.w.List(context.Background())
	if err != nil {
		rt.Fatal(err)
	}
	vms := map[string]banger.VM{}
	for _, vm := range list {
		vms[vm.Name] = vm
	}
	return vms
}

// check is every rule.
func (m *model) check(rt *rapid.T) {
	vms := m.look(rt)
	for name, vm := range vms {
		if _, ok := m.vm[name]; !ok {
			rt.Fatalf("%s was deleted, or never created, and is listed: %+v", name, vm)
		}
		alive := m.w.host.named(name) != nil
		if running := vm.State == banger.StateRunning || vm.State == banger.StatePaused; running != alive {
			rt.Fatalf("%s is shown as %s, alive: %v", name, vm.State, alive)
		}
		if vm.State == banger.StateBroken || vm.State == banger.StateCreating {
			rt.Fatalf("%s is %s: %s", name, vm.State, vm.Reason)
		}
	}
	settle() // a watcher may be about to settle what list has found ended
	vms = m.look(rt)
	for name, ephemeral := range m.vm {
		if _, ok := vms[name]; !ok && !ephemeral {
			rt.Fatalf("%s is lost", name)
		} else if !ok {
			delete(m.vm, name)
		}
	}
	m.noStrays(rt, vms)
}

// noStrays looks for directories without a row and for handles of nothing.
func (m *model) noStrays(rt *rapid.T, vms map[string]banger.VM) {
	live := map[string]bool{}
	for _, machine := range m.w.host.all() {
		live[machine.order.ID] = true
	}
	ids := map[string]bool{}
	for _, vm := range vms {
		ids[vm.ID] = true
	}
	for _, dir := range []string{m.w.layout.VMs(), m.w.layout.RunVMs()} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			rt.Fatal(err)
		}
		for _, e := range entries {
			if !ids[e.Name()] || (dir == m.w.layout.RunVMs() && !live[e.Name()]) {
				rt.Fatalf("%s/%s is left", dir, e.Name())
			}
		}
	}
	for id := range ids {
		files := m.w.layout.VM(id)
		if _, err := os.Stat(files.Handles()); (err == nil) != live[id] {
			rt.Fatalf("handles.json: %v, alive: %v", err, live[id])
		}
		if stray, _ := filepath.Glob(filepath.Join(files.Dir, ".*")); len(stray) > 0 {
			rt.Fatalf("left behind: %q", stray)
		}
	}
}

// known are the kinds of error that a verb may end with when nothing was made
// to fail; internal is not one of them.
var known = []banger.Kind{"", banger.KindConflict, banger.KindNotFound, banger.KindCancelled}

func (m *model) expect(rt *rapid.T, what string, err error) {
	if kind := banger.KindOf(err); !slices.Contains(known, kind) {
		rt.Fatalf("%s: %v", what, err)
	}
}

func (m *model) create(rt *rapid.T) {
	n, s := name(rt), spec()
	s.Ephemeral = rapid.Bool().Draw(rt, "ephemeral")
	var start *lifecycle.StartOptions
	if s.Ephemeral || rapid.Bool().Draw(rt, "start") {
		start = &lifecycle.StartOptions{}
	}
	_, exists := m.vm[n]
	_, err := m.w.Create(context.Background(), n, s, start, nil)
	switch {
	case exists && banger.KindOf(err) != banger.KindConflict:
		rt.Fatalf("create of %s, which exists: %v", n, err)
	case exists:
	case err == nil:
		m.vm[n] = s.Ephemeral
	case !s.Ephemeral && start != nil && strings.Contains(err.Error(), "did not start"):
		m.vm[n] = false
	case !s.Ephemeral:
		rt.Fatalf("create of %s: %v", n, err)
	}
}

// hopeless says whether a VM's guest is one that cannot boot.
func (m *model) hopeless(name string) bool {
	m.w.host.mu.Lock()
	defer m.w.host.mu.Unlock()
	g := m.w.host.guests[name]
	return g.hangs || g.panics || g.dies || g.spawnError != nil
}

func (m *model) start(rt *rapid.T) {
	n := name(rt)
	_, exists := m.vm[n]
	_, _, err := m.w.Start(context.Background(), n, lifecycle.StartOptions{}, nil)
	switch kind := banger.KindOf(err); {
	case !exists && kind != banger.KindNotFound:
		rt.Fatalf("start of %s, which is not there: %v", n, err)
	case exists && kind == banger.KindInternal && m.hopeless(n):
	case exists && kind == banger.KindConflict && m.look(rt)[n].State == banger.StatePaused:
	case exists && err != nil && kind != banger.KindNotFound:
		rt.Fatalf("start of %s: %v", n, err)
	}
}

func (m *model) stop(rt *rapid.T) {
	_, _, err := m.w.Stop(context.Background(), name(rt), 0)
	m.expect(rt, "stop", err)
}

func (m *model) kill(rt *rapid.T) {
	_, _, err := m.w.Kill(context.Background(), name(rt))
	m.expect(rt, "kill", err)
}

func (m *model) restart(rt *rapid.T) {
	n := name(rt)
	_, _, err := m.w.Restart(context.Background(), n, lifecycle.RestartOptions{}, nil)
	if banger.KindOf(err) != banger.KindInternal || !m.hopeless(n) {
		m.expect(rt, "restart", err)
	}
}

func (m *model) pause(rt *rapid.T) {
	_, _, err := m.w.Pause(context.Background(), name(rt))
	m.expect(rt, "pause", err)
}

func (m *model) resume(rt *rapid.T) {
	_, _, err := m.w.Resume(context.Background(), name(rt))
	m.expect(rt, "resume", err)
}

func (m *model) reset(rt *rapid.T) {
	_, _, err := m.w.Reset(context.Background(), name(rt), rapid.Bool().Draw(rt, "force"), nil)
	m.expect(rt, "reset", err)
}

func (m *model) delete(rt *rapid.T) {
	n, force := name(rt), rapid.Bool().Draw(rt, "force")
	alive := m.w.host.named(n) != nil
	_, exists := m.vm[n]
	_, _, err := m.w.Delete(context.Background(), n, force)
	switch kind := banger.KindOf(err); {
	case err == nil:
		delete(m.vm, n)
	case kind == banger.KindNotFound && !exists, kind == banger.KindConflict && alive && !force:
	default:
		rt.Fatalf("delete of %s, alive: %v, force: %v: %v", n, alive, force, err)
	}
}

// twoAtOnce runs two verbs on one VM.
func (m *model) twoAtOnce(rt *rapid.T) {
	n := name(rt)
	verbs := m.w.verbs()
	names := []string{"start", "stop", "kill", "restart", "pause", "resume", "reset --force", "delete --force"}
	first, second := rapid.SampledFrom(names).Draw(rt, "first"), rapid.SampledFrom(names).Draw(rt, "second")
	one := begin(func() result { verbs[first](n); return result{} })
	verbs[second](n)
	<-one
	if strings.HasPrefix(first, "delete") || strings.HasPrefix(second, "delete") {
		delete(m.vm, n)
	}
}

// fault makes one step of a start or a create fail.
func (m *model) fault(rt *rapid.T) {
	n := name(rt)
	m.w.failAt(rapid.SampledFrom([]string{"create.image", "create.disks", "create.row", "start.intent", "start.plan", "start.handles", "start.monitor", "start.ready"}).Draw(rt, "step"))
	defer m.w.setFault(nil)
	if _, exists := m.vm[n]; exists {
		_, _, _ = m.w.Start(context.Background(), n, lifecycle.StartOptions{}, nil)
		return
	}
	_, err := m.w.Create(context.Background(), n, spec(), &lifecycle.StartOptions{}, nil)
	if err == nil || strings.Contains(err.Error(), "did not start") {
		m.vm[n] = false
	}
}

// guest changes how a VM will behave in its next run.
func (m *model) guest(rt *rapid.T) {
	m.w.guest(name(rt), rapid.SampledFrom([]guest{
		{}, {}, {boots: time.Second}, {hangs: true}, {panics: true}, {dies: true}, {deaf: true}, {spawnError: errFault},
	}).Draw(rt, "guest"))
}

// daemonDies kills the daemon at once, or at a step of a verb.
func (m *model) daemonDies(rt *rapid.T) {
	n := name(rt)
	step := rapid.SampledFrom([]string{"", "create.disks", "create.row", "start.intent", "start.handles", "start.monitor", "start.ready"}).Draw(rt, "step")
	if step != "" {
		m.w.dieAt(step)
		if _, exists := m.vm[n]; exists {
			<-m.w.beginStart(context.Background(), n)
		} else if <-m.w.beginCreate(context.Background(), n, spec(), &lifecycle.StartOptions{}); strings.HasPrefix(step, "start.") {
			m.vm[n] = false
		}
		m.w.setFault(nil)
	}
	m.w.Close()
	if rapid.Bool().Draw(rt, "meanwhile") {
		m.w.host.killAll()
	}
	if err := m.w.restart(); err != nil {
		rt.Fatal(err)
	}
}

// itEnds has a guest end by itself.
func (m *model) itEnds(rt *rapid.T) {
	if machine := m.w.host.named(name(rt)); machine != nil {
		machine.end(rapid.SampledFrom([]string{monitor.ReasonPoweroff, monitor.ReasonPanic, monitor.ReasonVMMFailed}).Draw(rt, "reason"), "it ended")
	}
	settle()
}

// monitorDies kills a monitor; whoever looks next sees a dead VM.
func (m *model) monitorDies(rt *rapid.T) {
	if machine := m.w.host.named(name(rt)); machine != nil {
		machine.kill()
	}
}

func (m *model) hostReboots(rt *rapid.T) {
	m.w.Close()
	if err := m.w.host.reboot(m.w.layout.RunVMs()); err != nil {
		rt.Fatal(err)
	}
	if err := m.w.restart(); err != nil {
		rt.Fatal(err)
	}
}
