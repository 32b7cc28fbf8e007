package lifecycle_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"banger.dev/banger"
	"banger.dev/banger/internal/lifecycle"
	"banger.dev/banger/internal/monitor"
)

// modelVM is what must be true of one VM.
type modelVM struct {
	ephemeral bool
	state     banger.State // stopped, running, paused or broken
	intent    banger.Intent
	failed    bool     // it has a last error
	published bool     // it has a port
	machine   *machine // the run that goes on: it must be the same one while it is alive
}

// model is what must be true of all VMs, by name. It knows nothing of how
// lifecycle does it.
type model struct {
	w    *world
	vms  map[string]*modelVM
	sets atomic.Int64 // how often set was asked for
}

var modelNames = []string{"a", "b", "c"}

// A random sequence of verbs, faults, deaths, reboots and jumps of the clock: what
// the model says is what list and show say, after each, and nothing is left over.
// In each world rapid makes -rapid.checks sequences of about -rapid.steps steps.
func TestWhateverHappensTheModelHolds(t *testing.T) {
	t.Parallel()
	steps, until := 0, time.Now().Add(randomTime(t))
	for first := true; first || time.Now().Before(until); first = false {
		inWorld(t, func(t *testing.T, w *world) {
			// Without the Deadline of a testing.T, which a bubble does not have.
			rapid.Check(struct{ testing.TB }{t}, func(rt *rapid.T) {
				w.empty()
				m := &model{w: w, vms: map[string]*modelVM{}}
				actions := m.actions()
				actions[""] = func(rt *rapid.T) {
					steps++
					m.check(rt)
				}
				rt.Repeat(actions)
			})
		})
	}
	t.Logf("%d steps", steps)
}

// actions are all that can happen.
func (m *model) actions() map[string]func(*rapid.T) {
	actions := map[string]func(*rapid.T){
		"guest": m.guest, "clock jumps": m.clockJumps, "time passes": m.timePasses,
		"the guest ends": m.guestEnds, "the monitor dies": m.monitorDies,
		"the daemon is started anew": m.daemonDies, "the host reboots": m.hostReboots,
		"two at once": m.twoAtOnce, "a fault": m.fault, "the daemon dies in a verb": m.diesInVerb,
		"the monitor dies in a verb": m.monitorDiesInVerb,
	}
	for verb := range m.verbs() {
		actions[verb] = func(rt *rapid.T) { m.do(rt, name(rt), verb) }
	}
	return actions
}

// empty ends and deletes everything.
func (w *world) empty() {
	w.t.Helper()
	w.Close()
	w.setPoint(nil)
	w.host.killAll()
	w.boot()
	list, err := w.List(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, vm := range list {
		w.delete(vm.Name)
	}
	for _, name := range modelNames {
		w.guest(name, guest{})
	}
}

func name(rt *rapid.T) string { return rapid.SampledFrom(modelNames).Draw(rt, "name") }

// modelVerb is a verb as the model knows it.
type modelVerb struct {
	do func(name string) (lifecycle.Outcome, error)
	// becomes is the VM after the verb, if all goes well: nil if there is none then.
	// refused is the kind of the error where it is none for a VM like this.
	becomes func(before *modelVM, boots bool) (after *modelVM, changed bool, refused banger.Kind)
}

// verbs are all that change a VM. boots says whether its guest would get ready.
func (m *model) verbs() map[string]modelVerb {
	ctx := context.Background()
	create := func(ephemeral, start bool) modelVerb {
		return modelVerb{
			do: func(name string) (lifecycle.Outcome, error) {
				s := spec()
				s.Ephemeral = ephemeral
				var opts *lifecycle.StartOptions
				if start {
					opts = &lifecycle.StartOptions{}
				}
				_, err := m.w.Create(ctx, name, s, opts, nil)
				return lifecycle.Outcome{Changed: true}, err
			},
			becomes: func(before *modelVM, boots bool) (*modelVM, bool, banger.Kind) {
				switch {
				case before != nil:
					return before, false, banger.KindConflict
				case start:
					return started(&modelVM{ephemeral: ephemeral}, boots)
				}
				return &modelVM{state: banger.StateStopped, intent: banger.IntentStopped}, true, ""
			},
		}
	}
	reset := func(force bool, running outcome) modelVerb {
		return modelVerb{
			do: func(name string) (lifecycle.Outcome, error) {
				_, out, err := m.w.Reset(ctx, name, force, nil)
				return out, err
			},
			becomes: in(states{banger.StateStopped: lasting(emptied), banger.StateRunning: lasting(running), banger.StatePaused: lasting(running), banger.StateBroken: refuses}),
		}
	}
	return map[string]modelVerb{
		"create": create(false, false), "create and start": create(false, true), "create --rm": create(true, true),
		"start": {
			do: func(name string) (lifecycle.Outcome, error) {
				_, out, err := m.w.Start(ctx, name, lifecycle.StartOptions{}, nil)
				return out, err
			},
			becomes: in(states{
				banger.StateStopped: started, banger.StateRunning: stays, banger.StatePaused: refuses, banger.StateBroken: refuses,
			}),
		},
		"stop": {
			do:      func(name string) (lifecycle.Outcome, error) { _, out, err := m.w.Stop(ctx, name, 0); return out, err },
			becomes: in(states{banger.StateStopped: stays, banger.StateRunning: stopped, banger.StatePaused: stopped, banger.StateBroken: stays}),
		},
		"kill": {
			do:      func(name string) (lifecycle.Outcome, error) { _, out, err := m.w.Kill(ctx, name); return out, err },
			becomes: in(states{banger.StateStopped: stays, banger.StateRunning: stopped, banger.StatePaused: stopped, banger.StateBroken: stays}),
		},
		"restart": {
			do: func(name string) (lifecycle.Outcome, error) {
				_, out, err := m.w.Restart(ctx, name, lifecycle.RestartOptions{}, nil)
				return out, err
			},
			becomes: in(states{banger.StateStopped: lasting(started), banger.StateRunning: lasting(started), banger.StatePaused: lasting(started), banger.StateBroken: refuses}),
		},
		"pause": {
			do:      func(name string) (lifecycle.Outcome, error) { _, out, err := m.w.Pause(ctx, name); return out, err },
			becomes: in(states{banger.StateStopped: refuses, banger.StateRunning: paused, banger.StatePaused: stays, banger.StateBroken: refuses}),
		},
		"resume": {
			do:      func(name string) (lifecycle.Outcome, error) { _, out, err := m.w.Resume(ctx, name); return out, err },
			becomes: in(states{banger.StateStopped: refuses, banger.StateRunning: stays, banger.StatePaused: resumed, banger.StateBroken: refuses}),
		},
		"set": {
			do: func(name string) (lifecycle.Outcome, error) {
				n := strconv.FormatInt(m.sets.Add(1), 10)
				_, out, err := m.w.Set(ctx, name, lifecycle.Change{Labels: map[string]*string{"n": &n}}, nil)
				return out, err
			},
			becomes: in(states{banger.StateStopped: emptied, banger.StateRunning: emptied, banger.StatePaused: emptied, banger.StateBroken: emptied}),
		},
		"commit": {
			do: func(name string) (lifecycle.Outcome, error) {
				_, err := m.w.Commit(ctx, name, "mine", nil)
				return lifecycle.Outcome{Changed: err == nil}, err
			},
			becomes: in(states{banger.StateStopped: emptied, banger.StateRunning: refuses, banger.StatePaused: refuses, banger.StateBroken: refuses}),
		},
		"port add": {
			do: func(name string) (lifecycle.Outcome, error) {
				_, out, err := m.w.AddPorts(ctx, name, []banger.Port{portOf(name)})
				return out, err
			},
			becomes: inAny(func(vm *modelVM, _ bool) (*modelVM, bool, banger.Kind) {
				return vm.publishing(true), !vm.published, ""
			}),
		},
		"port remove": {
			do: func(name string) (lifecycle.Outcome, error) {
				_, out, err := m.w.RemovePorts(ctx, name, []banger.Port{portOf(name)})
				return out, err
			},
			becomes: inAny(func(vm *modelVM, _ bool) (*modelVM, bool, banger.Kind) {
				if !vm.published {
					return vm, false, banger.KindNotFound
				}
				return vm.publishing(false), true, ""
			}),
		},
		"reset": reset(false, refuses), "reset --force": reset(true, stopped),
		"delete": {
			do: func(name string) (lifecycle.Outcome, error) {
				_, out, err := m.w.Delete(ctx, name, false)
				return out, err
			},
			becomes: in(states{banger.StateStopped: deleted, banger.StateRunning: refuses, banger.StatePaused: refuses, banger.StateBroken: deleted}),
		},
		"delete --force": {
			do: func(name string) (lifecycle.Outcome, error) {
				_, out, err := m.w.Delete(ctx, name, true)
				return out, err
			},
			becomes: in(states{banger.StateStopped: deleted, banger.StateRunning: deleted, banger.StatePaused: deleted, banger.StateBroken: deleted}),
		},
	}
}

// outcome is what becomes of a VM that is there.
type outcome = func(before *modelVM, boots bool) (after *modelVM, changed bool, refused banger.Kind)

type states map[banger.State]outcome

// in is the outcome by the state that the VM is in; none is not found.
func in(by states) outcome {
	return func(before *modelVM, boots bool) (*modelVM, bool, banger.Kind) {
		if before == nil {
			return nil, false, banger.KindNotFound
		}
		return by[before.state](before, boots)
	}
}

// inAny is the same outcome in every state.
func inAny(o outcome) outcome {
	return in(states{banger.StateStopped: o, banger.StateRunning: o, banger.StatePaused: o, banger.StateBroken: o})
}

// portOf is the port that a VM publishes, if it does.
func portOf(name string) banger.Port {
	return banger.Port{HostIP: "127.0.0.1", HostPort: 20000 + slices.Index(modelNames, name), GuestPort: 80, Protocol: "tcp"}
}

// publishing is the same VM with its port, or without.
func (vm *modelVM) publishing(is bool) *modelVM {
	after := *vm
	after.published = is
	return &after
}

func stays(vm *modelVM, _ bool) (*modelVM, bool, banger.Kind) { return vm, false, "" }
func refuses(vm *modelVM, _ bool) (*modelVM, bool, banger.Kind) {
	return vm, false, banger.KindConflict
}
func deleted(*modelVM, bool) (*modelVM, bool, banger.Kind) { return nil, true, "" }

func emptied(vm *modelVM, _ bool) (*modelVM, bool, banger.Kind) { return vm, true, "" }

func paused(vm *modelVM, _ bool) (*modelVM, bool, banger.Kind) {
	return vm.turned(banger.StatePaused), true, ""
}

func resumed(vm *modelVM, _ bool) (*modelVM, bool, banger.Kind) {
	return vm.turned(banger.StateRunning), true, ""
}

// turned is the same run in another state.
func (vm *modelVM) turned(state banger.State) *modelVM {
	after := *vm
	after.state = state
	return &after
}

// lasting is the outcome of what is refused for VMs that were made with --rm.
func lasting(o outcome) outcome {
	return func(vm *modelVM, boots bool) (*modelVM, bool, banger.Kind) {
		if vm.ephemeral {
			return refuses(vm, boots)
		}
		return o(vm, boots)
	}
}

func stopped(vm *modelVM, _ bool) (*modelVM, bool, banger.Kind) {
	if vm.ephemeral {
		return nil, true, ""
	}
	return &modelVM{state: banger.StateStopped, intent: banger.IntentStopped, published: vm.published}, true, ""
}

func started(vm *modelVM, boots bool) (*modelVM, bool, banger.Kind) {
	switch {
	case boots:
		return &modelVM{ephemeral: vm.ephemeral, state: banger.StateRunning, intent: banger.IntentRunning, published: vm.published}, true, ""
	case vm.ephemeral:
		return nil, false, banger.KindInternal
	}
	return &modelVM{state: banger.StateStopped, intent: banger.IntentStopped, failed: true, published: vm.published}, false, banger.KindInternal
}

// boots says whether the guest that a VM would get becomes ready.
func (m *model) boots(name string) bool {
	m.w.host.mu.Lock()
	defer m.w.host.mu.Unlock()
	g := m.w.host.guests[name]
	return !g.hangs && !g.panics && !g.dies && g.spawnError == nil
}

// do does a verb, and compares the answer with the model's.
func (m *model) do(rt *rapid.T, name, verb string) {
	v := m.verbs()[verb]
	after, changed, refused := v.becomes(m.vms[name], m.boots(name))
	out, err := v.do(name)
	if kind := banger.KindOf(err); kind != refused {
		rt.Fatalf("%s of %s: %q (%v), want %q", verb, name, kind, err, refused)
	}
	if err == nil && out.Changed != changed {
		rt.Fatalf("%s of %s: changed: %v, want %v", verb, name, out.Changed, changed)
	}
	m.set(name, after)
}

// set makes a VM what it has become. A machine that went on must be the one it was.
func (m *model) set(name string, after *modelVM) {
	if after == nil {
		delete(m.vms, name)
		return
	}
	if after.machine == nil {
		after.machine = m.w.host.named(name)
	}
	m.vms[name] = after
}

// check compares everything with the model.
func (m *model) check(rt *rapid.T) {
	settle() // a watcher may be about to settle what has ended
	list, err := m.w.List(context.Background())
	if err != nil {
		rt.Fatal(err)
	}
	found := map[string]banger.VM{}
	for _, vm := range list {
		found[vm.Name] = vm
	}
	if have, want := slices.Sorted(maps.Keys(found)), slices.Sorted(maps.Keys(m.vms)); !slices.Equal(have, want) {
		rt.Fatalf("there are %q, want %q", have, want)
	}
	for name, want := range m.vms {
		m.compare(rt, found[name], want)
	}
	m.noStrays(rt, found)
}

func (m *model) compare(rt *rapid.T, vm banger.VM, want *modelVM) {
	if vm.State != want.state || vm.Intent != want.intent || (vm.LastError != "") != want.failed {
		rt.Fatalf("%s is %s, intent %s, last error %q; want %+v", vm.Name, vm.State, vm.Intent, vm.LastError, *want)
	}
	if (len(vm.Ports) > 0) != want.published {
		rt.Fatalf("%s publishes %v; want %+v", vm.Name, vm.Ports, *want)
	}
	listens := slices.Contains(m.w.host.published(), portOf(vm.Name))
	if up := want.state == banger.StateRunning || want.state == banger.StatePaused; listens != (up && want.published) {
		rt.Fatalf("%s is %s and publishes %v; somebody listens: %v", vm.Name, vm.State, vm.Ports, listens)
	}
	shown, err := m.w.Show(context.Background(), vm.Name)
	if err != nil || shown.State != vm.State || shown.LastError != vm.LastError || shown.Spec.Ephemeral != want.ephemeral {
		rt.Fatalf("list: %+v; show: %+v, %v", vm, shown, err)
	}
	alive := m.w.host.named(vm.Name)
	if up := want.state == banger.StateRunning || want.state == banger.StatePaused; up != (alive != nil) {
		rt.Fatalf("%s is %s, alive: %v", vm.Name, vm.State, alive != nil)
	}
	if alive != want.machine {
		rt.Fatalf("%s is not the run that it was", vm.Name)
	}
	if alive != nil && (shown.Handles == nil || shown.Handles.MonitorPID != alive.status().MonitorPID) {
		rt.Fatalf("handles of %s: %+v", vm.Name, shown.Handles)
	}
}

// noStrays looks for directories without a row and for handles of nothing.
func (m *model) noStrays(rt *rapid.T, vms map[string]banger.VM) {
	ids, live := map[string]bool{}, map[string]bool{}
	for name, vm := range vms {
		ids[vm.ID], live[vm.ID] = true, m.vms[name].machine != nil
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

// guest changes how a VM will behave in its next run.
func (m *model) guest(rt *rapid.T) {
	m.w.guest(name(rt), rapid.SampledFrom([]guest{
		{}, {}, {}, {boots: time.Second}, {hangs: true}, {panics: true}, {dies: true}, {deaf: true}, {spawnError: errFault},
	}).Draw(rt, "guest"))
}

// clockJumps is the host's clock being set, as after a suspend.
func (m *model) clockJumps(rt *rapid.T) {
	drift := time.Duration(rapid.Int64Range(-int64(48*time.Hour), int64(48*time.Hour)).Draw(rt, "jump"))
	for _, machine := range m.w.host.all() {
		machine.mu.Lock()
		machine.drift = drift
		machine.mu.Unlock()
	}
	m.w.SetClocks(context.Background())
	for name, vm := range m.vms {
		if vm.state != banger.StateRunning {
			continue
		}
		if d, err := m.w.Show(context.Background(), name); err != nil || d.ClockDriftMS == nil || *d.ClockDriftMS != 0 {
			rt.Fatalf("the clock of %s: %v, %v", name, d.ClockDriftMS, err)
		}
	}
}

// timePasses changes nothing: no VM is ended for being old.
func (m *model) timePasses(rt *rapid.T) {
	time.Sleep(time.Duration(rapid.IntRange(1, 300).Draw(rt, "seconds")) * time.Second)
}

// ended is what becomes of a VM that ends though nobody asked it to.
func (m *model) ended(name string, intent banger.Intent, failed bool) {
	vm := m.vms[name]
	switch {
	case vm == nil || vm.machine == nil:
	case vm.ephemeral:
		delete(m.vms, name)
	default:
		m.vms[name] = &modelVM{state: banger.StateStopped, intent: intent, failed: failed, published: vm.published}
	}
}

func (m *model) guestEnds(rt *rapid.T) {
	n := name(rt)
	reason := rapid.SampledFrom([]string{monitor.ReasonPoweroff, monitor.ReasonPanic, monitor.ReasonVMMFailed}).Draw(rt, "reason")
	machine := m.w.host.named(n)
	if machine == nil {
		return
	}
	machine.end(reason, "it ended")
	if reason == monitor.ReasonPoweroff {
		m.ended(n, banger.IntentStopped, false)
	} else {
		m.ended(n, banger.IntentRunning, true)
	}
}

func (m *model) monitorDies(rt *rapid.T) {
	n := name(rt)
	if machine := m.w.host.named(n); machine != nil {
		machine.kill()
		m.ended(n, banger.IntentRunning, true)
	}
}

// daemonDies starts the daemon anew; meanwhile monitors may die.
func (m *model) daemonDies(rt *rapid.T) {
	m.w.Close()
	for _, n := range modelNames {
		if machine := m.w.host.named(n); machine != nil && rapid.Bool().Draw(rt, "its monitor dies meanwhile") {
			machine.kill()
			m.ended(n, banger.IntentRunning, true)
		}
	}
	m.restarted(rt)
}

func (m *model) restarted(rt *rapid.T) {
	if err := m.w.restart(); err != nil {
		rt.Fatal(err)
	}
}

func (m *model) hostReboots(rt *rapid.T) {
	m.w.Close()
	if err := m.w.host.reboot(m.w.layout.RunVMs()); err != nil {
		rt.Fatal(err)
	}
	for _, n := range modelNames {
		m.ended(n, banger.IntentRunning, true)
	}
	m.restarted(rt)
}

// twoAtOnce runs two verbs on one VM. Either may come first, and a kill or a
// delete may interrupt the other: what is left is what one of them leaves.
func (m *model) twoAtOnce(rt *rapid.T) {
	n, first, second := name(rt), m.verb(rt, "first"), m.verb(rt, "second")
	before := m.vms[n]
	verbs := m.verbs()
	one := begin(func() (r result) { _, r.err = verbs[first].do(n); return r })
	_, err := verbs[second].do(n)
	r := <-one
	for verb, err := range map[string]error{first: r.err, second: err} {
		if kind := banger.KindOf(err); kind == banger.KindInternal && m.boots(n) {
			rt.Fatalf("%s of %s, at the same time as another verb: %v", verb, n, err)
		}
	}
	m.adopt(rt, n, before, first+" and "+second)
}

func (m *model) verb(rt *rapid.T, label string) string {
	return rapid.SampledFrom(slices.Sorted(maps.Keys(m.verbs()))).Draw(rt, label)
}

// adopt takes for true what a VM is after something with more than one outcome,
// within bounds: it is not lost, made of nothing, or left without a way on.
func (m *model) adopt(rt *rapid.T, name string, before *modelVM, after string) {
	settle()
	list, err := m.w.List(context.Background())
	if err != nil {
		rt.Fatal(err)
	}
	i := slices.IndexFunc(list, func(vm banger.VM) bool { return vm.Name == name })
	if i < 0 {
		if before != nil && !before.ephemeral && !strings.Contains(after, "delete") {
			rt.Fatalf("%s is lost by %s", name, after)
		}
		delete(m.vms, name)
		return
	}
	vm := list[i]
	if before == nil && !strings.Contains(after, "create") {
		rt.Fatalf("%s is there after %s", name, after)
	}
	if !slices.Contains([]banger.State{banger.StateStopped, banger.StateRunning, banger.StatePaused}, vm.State) && !strings.Contains(after, "delete") {
		rt.Fatalf("%s is %s (%s) after %s", name, vm.State, vm.Reason, after)
	}
	shown, err := m.w.Show(context.Background(), name)
	if err != nil {
		rt.Fatal(err)
	}
	m.vms[name] = &modelVM{
		ephemeral: shown.Spec.Ephemeral, state: vm.State, intent: vm.Intent, failed: vm.LastError != "", published: len(vm.Ports) > 0,
		machine: m.w.host.named(name),
	}
}

// at has f called at the n-th point that a verb comes to, before or after one of
// its steps.
func (m *model) at(n int, f func() error) {
	m.w.setPoint(func() error {
		if n--; n != 0 {
			return nil
		}
		return f()
	})
}

// point is some point of a verb; the verb may end before it comes to it.
func point(rt *rapid.T) int { return rapid.IntRange(1, 24).Draw(rt, "point") }

// fault has a verb fail at some point; then the same verb must succeed, or be
// refused as the model says.
func (m *model) fault(rt *rapid.T) {
	n, verb := name(rt), m.verb(rt, "verb")
	before := m.vms[n]
	m.at(point(rt), func() error { return errFault })
	_, err := m.verbs()[verb].do(n)
	m.w.setPoint(nil)
	if kind := banger.KindOf(err); kind == banger.KindInternal && !errors.Is(err, errFault) && m.boots(n) {
		rt.Fatalf("%s of %s with a fault: %v", verb, n, err)
	}
	m.adopt(rt, n, before, verb)
	m.do(rt, n, verb)
}

// diesInVerb kills the daemon at some point of a verb, and has the next one do it
// again.
func (m *model) diesInVerb(rt *rapid.T) {
	n, verb := name(rt), m.verb(rt, "verb")
	before := m.vms[n]
	m.at(point(rt), func() error { runtime.Goexit(); return nil })
	<-begin(func() (r result) { _, r.err = m.verbs()[verb].do(n); return r })
	m.w.setPoint(nil)
	m.daemonDies(rt)
	m.adopt(rt, n, before, verb)
	m.do(rt, n, verb)
}

// monitorDiesInVerb kills the monitor, if there is one, at some point of a verb.
func (m *model) monitorDiesInVerb(rt *rapid.T) {
	n, verb := name(rt), m.verb(rt, "verb")
	before := m.vms[n]
	m.at(point(rt), func() error {
		if machine := m.w.host.named(n); machine != nil {
			machine.kill()
		}
		return nil
	})
	_, _ = m.verbs()[verb].do(n) // whether it could be done depends on when
	m.w.setPoint(nil)
	m.adopt(rt, n, before, fmt.Sprint(verb, ", in which its monitor dies"))
	m.do(rt, n, verb)
}
