package lifecycle_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/lifecycle"
	"banger.dev/banger/internal/monitor"
)

func TestStopAsksTheGuestAndRecordsThatItPoweredOff(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.create("a")
		stopped := w.String()
		asked := time.Duration(0)
		w.guest("a", guest{onShutdown: func(d time.Duration) { asked = d }})
		<-w.beginStart(t.Context(), "a")
		vm, out, err := w.Stop(t.Context(), "a", 3*time.Second)
		if err != nil || !out.Changed || out.Note != "" || asked != 3*time.Second {
			t.Errorf("stop: %+v, %v, asked within %s", out, err, asked)
		}
		if vm.State != banger.StateStopped || vm.Intent != banger.IntentStopped || vm.LastError != "" || vm.LastExit == nil || vm.LastExit.Reason != monitor.ReasonPoweroff {
			t.Errorf("stopped: %+v, %+v", vm, vm.LastExit)
		}
		w.same(stopped)
		_, out, err = w.Stop(t.Context(), "a", 0)
		if err != nil || out.Changed || out.Note != "" {
			t.Errorf("stop of a stopped VM: %+v, %v", out, err)
		}
	})
}

func TestStopKillsAGuestThatDoesNotPowerOffAndSaysSo(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.guest("a", guest{deaf: true})
		w.run("a")
		vm, out, err := w.Stop(t.Context(), "a", 3*time.Second)
		if err != nil || !out.Changed {
			t.Fatalf("stop: %+v, %v", out, err)
		}
		wantWords(t, out.Note, "did not power off within 3s", "killed")
		if vm.State != banger.StateStopped || vm.LastError != "" || vm.LastExit == nil || vm.LastExit.Reason != monitor.ReasonKilled {
			t.Errorf("stopped: %+v", vm)
		}
	})
}

func TestStopKillsAMonitorThatDoesNotAnswerAndSaysSo(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.run("a")
		w.machine("a").setMute(true)
		vm, out, err := w.Stop(t.Context(), "a", 0)
		if err != nil || !out.Changed || vm.State != banger.StateStopped {
			t.Fatalf("stop: %+v, %+v, %v", vm, out, err)
		}
		wantWords(t, out.Note, "monitor did not answer", "killed")
		if vm.LastError != "" || vm.LastExit == nil || vm.LastExit.Reason != monitor.ReasonKilled {
			t.Errorf("stopped: %+v, %+v", vm, vm.LastExit)
		}
		if w.host.named("a") != nil {
			t.Error("it is alive")
		}
	})
}

func TestKillInterruptsAStopThatWaits(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		for _, mute := range []bool{false, true} {
			w.guest("a", guest{deaf: true})
			w.run("a")
			c := w.beginStop("a")
			pending(t, "stop", c)
			w.machine("a").setMute(mute)
			vm, out, err := w.Kill(t.Context(), "a")
			if err != nil || !out.Changed || vm.State != banger.StateStopped {
				t.Errorf("kill: %+v, %+v, %v", vm, out, err)
			}
			if r := <-c; r.err != nil || r.vm.State != banger.StateStopped {
				t.Errorf("the stop: %+v", r)
			}
			w.delete("a")
		}
	})
}

func (m *machine) setMute(mute bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mute = mute
}

// A list that reads a row while its VM is created, and looks at the VM while it is
// deleted, finds neither a create that was cut off nor disks that are gone.
func TestAVMThatIsMadeAndDeletedDuringAListIsNotBroken(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		made := w.images.hold()
		created := w.beginCreate(context.Background(), "a", spec(), nil)
		var deleted <-chan result
		release := make(chan struct{})
		w.afterRead = func(what string) {
			switch what {
			case "list":
				made()
				<-created
			case "get":
				w.afterRead = nil
				w.setFault(func(step string) error {
					if step == "delete.row" {
						<-release
					}
					return nil
				})
				deleted = begin(func() (r result) {
					r.vm, r.out, r.err = w.Delete(context.Background(), "a", false)
					return r
				})
			}
		}
		list, err := w.List(context.Background())
		if err != nil || len(list) > 0 {
			t.Errorf("%+v, %v", list, err)
		}
		close(release)
		if r := <-deleted; r.err != nil {
			t.Error(r.err)
		}
	})
}

func TestKillEndsAVMThatIsStartedWhileItIsLookedAt(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.create("a")
		w.host.mu.Lock()
		w.host.afterHeld = func() {
			if _, _, err := w.Start(t.Context(), "a", lifecycle.StartOptions{}, nil); err != nil {
				t.Error(err)
			}
		}
		w.host.mu.Unlock()
		if vm, out, err := w.Kill(t.Context(), "a"); err != nil || !out.Changed || vm.State != banger.StateStopped {
			t.Errorf("%+v, %+v, %v", vm, out, err)
		}
	})
}

func TestDeleteWithoutForceLeavesAVMAloneThatIsStartedMeanwhile(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.create("a")
		w.host.mu.Lock()
		w.host.afterHeld = func() {
			if _, _, err := w.Start(t.Context(), "a", lifecycle.StartOptions{}, nil); err != nil {
				t.Error(err)
			}
		}
		w.host.mu.Unlock()
		_, _, err := w.Delete(t.Context(), "a", false)
		wantKind(t, err, banger.KindConflict)
		settle()
		w.wantState("a", "running")
	})
}

// It is on the way out, not broken.
func TestKillOfAVMThatIsJustBeingDeletedFindsItStopped(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.create("a")
		deleting, release := make(chan struct{}), make(chan struct{})
		w.setFault(func(step string) error {
			if step == "delete.row" {
				close(deleting)
				<-release
			}
			return nil
		})
		deleted := begin(func() (r result) {
			r.vm, r.out, r.err = w.Delete(context.Background(), "a", false)
			return r
		})
		<-deleting
		if vm, out, err := w.Kill(t.Context(), "a"); err != nil || out.Changed || vm.State != banger.StateStopped || vm.Reason != "" {
			t.Errorf("%+v, %+v, %v", vm, out, err)
		}
		close(release)
		if r := <-deleted; r.err != nil {
			t.Error(r.err)
		}
	})
}

func TestKillRecordsWhatTheMonitorWrote(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.run("a")
		vm, out, err := w.Kill(t.Context(), "a")
		if err != nil || !out.Changed || vm.LastExit == nil || vm.LastExit.Reason != monitor.ReasonKilled || vm.LastError != "" || vm.Intent != banger.IntentStopped {
			t.Errorf("kill: %+v, %+v, %v", vm, out, err)
		}
		_, out, err = w.Kill(t.Context(), "a")
		if err != nil || out.Changed || out.Note != "" {
			t.Errorf("kill of a stopped VM: %+v, %v", out, err)
		}
	})
}

func TestAStopWhoseCallerIsGoneStillEndsTheVM(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.guest("a", guest{deaf: true})
		w.run("a")
		ctx, cancel := context.WithCancel(t.Context())
		c := begin(func() (r result) {
			r.vm, r.out, r.err = w.Stop(ctx, "a", 0)
			return r
		})
		cancel()
		wantKind(t, (<-c).err, banger.KindCancelled)
		w.machine("a").end(monitor.ReasonKilled, "the guest did not power off in time") // as the real monitor goes on to
		settle()
		w.wantState("a", "stopped")
		if r := w.row("a"); r.Intent != banger.IntentStopped || r.LastError != "" {
			t.Errorf("row: %+v", r)
		}
	})
}

func TestAVMWhoseLockCannotBeAskedForCountsAsAliveAndKeepsItsHandles(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.run("a")
		before := w.String()
		handles := w.layout.VM(w.row("a").ID).Handles()
		w.setHeldError(errFault)
		if _, _, err := w.Kill(t.Context(), "a"); err == nil {
			t.Error("kill of a VM that may be alive yet succeeded")
		} else {
			wantWords(t, err.Error(), "VM a", "something still holds")
		}
		if _, _, err := w.Delete(t.Context(), "a", true); err == nil {
			t.Error("delete of a VM that may be alive yet succeeded")
		}
		w.wantState("a", "running")
		if _, err := os.Stat(handles); err != nil {
			t.Error(err)
		}
		w.setHeldError(nil)
		w.wantState("a", "stopped")
		w.delete("a")
		if after := w.String(); strings.Contains(after, "row a") || after == before {
			t.Errorf("left behind:\n%s", after)
		}
	})
}

func (w *world) setHeldError(err error) {
	w.host.mu.Lock()
	defer w.host.mu.Unlock()
	w.host.heldError = err
}

func TestStopAndKillOfAnEphemeralVMDeleteIt(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		before := w.String()
		for name, verb := range w.verbs() {
			if name != "stop" && name != "kill" {
				continue
			}
			if _, err := w.Create(t.Context(), "a", ephemeral(), &lifecycle.StartOptions{}, nil); err != nil {
				t.Fatal(err)
			}
			if got := verb("a"); got != "changed" {
				t.Errorf("%s: %s", name, got)
			}
			w.same(before)
		}
	})
}

func TestDeleteByForceWorksFromEveryStateAndLeavesNothing(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		before := w.String()
		for state, reach := range w.states() {
			undo := reach("a")
			w.setFault(nil)
			if _, out, err := w.Delete(t.Context(), "a", true); err != nil || !out.Changed {
				t.Errorf("%s: %+v, %v", state, out, err)
			}
			undo()
			w.same(before)
		}
	})
}

// verbs are the verbs on an existing VM, and what they did in a word.
func (w *world) verbs() map[string]func(name string) string {
	ctx := context.Background()
	word := func(out lifecycle.Outcome, err error) string {
		switch {
		case err != nil:
			return string(banger.KindOf(err))
		case out.Changed:
			return "changed"
		default:
			return "unchanged"
		}
	}
	return map[string]func(string) string{
		"start": func(name string) string {
			_, out, err := w.Start(ctx, name, lifecycle.StartOptions{}, nil)
			return word(out, err)
		},
		"stop": func(name string) string { _, out, err := w.Stop(ctx, name, 0); return word(out, err) },
		"kill": func(name string) string { _, out, err := w.Kill(ctx, name); return word(out, err) },
		"delete": func(name string) string {
			_, out, err := w.Delete(ctx, name, false)
			return word(out, err)
		},
		"delete --force": func(name string) string {
			_, out, err := w.Delete(ctx, name, true)
			return word(out, err)
		},
		"restart": func(name string) string {
			_, out, err := w.Restart(ctx, name, lifecycle.RestartOptions{}, nil)
			return word(out, err)
		},
		"pause":  func(name string) string { _, out, err := w.Pause(ctx, name); return word(out, err) },
		"resume": func(name string) string { _, out, err := w.Resume(ctx, name); return word(out, err) },
		"set": func(name string) string {
			_, out, err := w.Set(ctx, name, lifecycle.Change{Memory: ptr(512 * banger.MiB)}, nil)
			return word(out, err)
		},
		"set --image": func(name string) string {
			_, out, err := w.Set(ctx, name, lifecycle.Change{Image: ptr("debian")}, nil)
			return word(out, err)
		},
		"reset": func(name string) string {
			_, out, err := w.Reset(ctx, name, false, nil)
			return word(out, err)
		},
		"reset --force": func(name string) string {
			_, out, err := w.Reset(ctx, name, true, nil)
			return word(out, err)
		},
		"commit": func(name string) string {
			_, err := w.Commit(ctx, name, "mine", nil)
			return word(lifecycle.Outcome{Changed: true}, err)
		},
		"create": func(name string) string {
			_, err := w.Create(ctx, name, spec(), nil, nil)
			return word(lifecycle.Outcome{Changed: true}, err)
		},
	}
}

// states bring a new VM into a state; undo waits for what that has begun.
func (w *world) states() map[string]func(name string) (undo func()) {
	ctx := context.Background()
	return map[string]func(string) func(){
		"creating": func(name string) func() {
			release := w.images.hold()
			c := w.beginCreate(ctx, name, spec(), nil)
			return func() { release(); <-c }
		},
		"booting": func(name string) func() {
			w.guest(name, guest{boots: 10 * time.Second})
			w.create(name)
			c := w.beginStart(ctx, name)
			return func() { <-c; w.guest(name, guest{}) }
		},
		"running": func(name string) func() { w.run(name); return func() {} },
		"paused": func(name string) func() {
			w.run(name)
			w.machine(name).pause("the host's disk is full")
			synctest.Wait()
			return func() {}
		},
		"stopped": func(name string) func() { w.create(name); return func() {} },
		"broken": func(name string) func() {
			w.create(name)
			if err := removed(w.layout.VM(w.row(name).ID).SystemDisk("qcow2")); err != nil {
				w.t.Fatal(err)
			}
			return func() {}
		},
		"cut off": func(name string) func() {
			w.dieAt("create.disks")
			if r := <-w.beginCreate(ctx, name, spec(), nil); !r.died {
				w.t.Fatalf("create: %+v", r)
			}
			w.setFault(nil)
			return func() {}
		},
		"half deleted": func(name string) func() {
			w.create(name)
			w.failAt("delete.row")
			if _, _, err := w.Delete(ctx, name, false); !errors.Is(err, errFault) {
				w.t.Fatalf("delete: %v", err)
			}
			return func() { w.setFault(nil) }
		},
	}
}

func TestEveryVerbInEveryState(t *testing.T) {
	shown := map[string]string{"booting": "running", "cut off": "broken", "half deleted": "broken"}
	want := map[string]map[string]string{ // state → verb → what it does, and the state after
		"creating": {
			"start": "conflict creating", "stop": "conflict creating", "kill": "conflict creating",
			"delete": "changed gone", "delete --force": "changed gone", "create": "conflict creating",
			"set": "conflict creating", "set --image": "conflict creating",
			"restart": "conflict creating", "pause": "conflict creating", "resume": "conflict creating",
			"reset": "conflict creating", "reset --force": "conflict creating", "commit": "conflict creating",
		},
		"booting": { // all but kill and delete --force wait until it has booted
			"start": "unchanged running", "stop": "changed stopped", "kill": "changed stopped",
			"delete": "conflict running", "delete --force": "changed gone", "create": "conflict running",
			"set": "changed running", "set --image": "conflict running",
			"restart": "changed running", "pause": "changed paused", "resume": "unchanged running",
			"reset": "conflict running", "reset --force": "changed stopped", "commit": "conflict running",
		},
		"running": {
			"start": "unchanged running", "stop": "changed stopped", "kill": "changed stopped",
			"delete": "conflict running", "delete --force": "changed gone", "create": "conflict running",
			"set": "changed running", "set --image": "conflict running",
			"restart": "changed running", "pause": "changed paused", "resume": "unchanged running",
			"reset": "conflict running", "reset --force": "changed stopped", "commit": "conflict running",
		},
		"paused": {
			"start": "conflict paused", "stop": "changed stopped", "kill": "changed stopped",
			"delete": "conflict paused", "delete --force": "changed gone", "create": "conflict paused",
			"set": "changed paused", "set --image": "conflict paused",
			"restart": "changed running", "pause": "unchanged paused", "resume": "changed running",
			"reset": "conflict paused", "reset --force": "changed stopped", "commit": "conflict paused",
		},
		"stopped": {
			"start": "changed running", "stop": "unchanged stopped", "kill": "unchanged stopped",
			"delete": "changed gone", "delete --force": "changed gone", "create": "conflict stopped",
			"set": "changed stopped", "set --image": "unchanged stopped",
			"restart": "changed running", "pause": "conflict stopped", "resume": "conflict stopped",
			"reset": "changed stopped", "reset --force": "changed stopped", "commit": "changed stopped",
		},
		"broken": {
			"start": "conflict broken", "stop": "unchanged broken", "kill": "unchanged broken",
			"delete": "changed gone", "delete --force": "changed gone", "create": "conflict broken",
			"set": "changed broken", "set --image": "unchanged broken",
			"restart": "conflict broken", "pause": "conflict broken", "resume": "conflict broken",
			"reset": "changed stopped", "reset --force": "changed stopped", "commit": "conflict broken",
		},
		"cut off": {
			"start": "conflict broken", "stop": "unchanged broken", "kill": "unchanged broken",
			"delete": "changed gone", "delete --force": "changed gone", "create": "conflict broken",
			"set": "conflict broken", "set --image": "conflict broken",
			"restart": "conflict broken", "pause": "conflict broken", "resume": "conflict broken",
			"reset": "conflict broken", "reset --force": "conflict broken", "commit": "conflict broken",
		},
		"half deleted": {
			"start": "conflict broken", "stop": "conflict broken", "kill": "conflict broken",
			"delete": "internal broken", "delete --force": "internal broken", "create": "conflict broken",
			"set": "conflict broken", "set --image": "conflict broken",
			"restart": "conflict broken", "pause": "conflict broken", "resume": "conflict broken",
			"reset": "conflict broken", "reset --force": "conflict broken", "commit": "conflict broken",
		},
	}
	inWorld(t, func(t *testing.T, w *world) {
		before := w.String()
		for state, reach := range w.states() {
			for verb, do := range w.verbs() {
				undo := reach("a")
				if is := w.state("a"); is != state && is != shown[state] {
					t.Fatalf("a VM that is %s is shown as %s", state, is)
				}
				got := do("a")
				got += " " + w.state("a")
				if got != want[state][verb] {
					t.Errorf("%s of a VM that is %s: %s, want %s", verb, state, got, want[state][verb])
				}
				undo()
				if w.state("a") != "gone" {
					w.delete("a")
				}
				w.same(before)
			}
		}
	})
}

func TestAPausedVMSaysWhy(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.states()["paused"]("a")
		d, err := w.Show(t.Context(), "a")
		if err != nil || d.State != banger.StatePaused || d.Reason != "the host's disk is full" {
			t.Errorf("show: %s, %q, %v", d.State, d.Reason, err)
		}
	})
}
