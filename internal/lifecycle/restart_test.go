package lifecycle_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/lifecycle"
	"banger.dev/banger/internal/monitor"
)

func (w *world) beginRestart(ctx context.Context, name string) <-chan result {
	return begin(func() (r result) {
		r.detail, r.out, r.err = w.Restart(ctx, name, lifecycle.RestartOptions{}, nil)
		return r
	})
}

func TestRestartAsksTheGuestToPowerOffAndBootsAnother(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		asked := time.Duration(0)
		w.guest("a", guest{onShutdown: func(d time.Duration) { asked = d }})
		w.run("a")
		first := w.machine("a")
		d, out, err := w.Restart(t.Context(), "a", lifecycle.RestartOptions{StopTimeout: 3 * time.Second}, nil)
		if err != nil || !out.Changed || out.Note != "" || asked != 3*time.Second {
			t.Errorf("restart: %+v, %v, asked within %s", out, err, asked)
		}
		if d.State != banger.StateRunning || d.Intent != banger.IntentRunning || w.machine("a") == first {
			t.Errorf("restarted: %+v", d.VM)
		}
		w.guest("a", guest{deaf: true})
		for range 2 { // the second time it is deaf already
			if _, out, err = w.Restart(t.Context(), "a", lifecycle.RestartOptions{}, nil); err != nil {
				t.Fatal(err)
			}
		}
		wantWords(t, out.Note, "did not power off within 10s", "killed")
	})
}

func TestARestartThatCouldNotStartAgainStopsNothing(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.run("a")
		w.missing = banger.Errorf(banger.KindUnavailable, "QEMU is missing")
		_, _, err := w.Restart(t.Context(), "a", lifecycle.RestartOptions{}, nil)
		wantKind(t, err, banger.KindUnavailable)
		w.wantState("a", "running")
	})
}

func TestAnEphemeralVMIsNotRestarted(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		if _, err := w.Create(t.Context(), "a", ephemeral(), &lifecycle.StartOptions{}, nil); err != nil {
			t.Fatal(err)
		}
		_, _, err := w.Restart(t.Context(), "a", lifecycle.RestartOptions{}, nil)
		wantKind(t, err, banger.KindConflict)
		wantWords(t, err.Error(), "--rm")
		_, _, err = w.Reset(t.Context(), "a", true, nil)
		wantKind(t, err, banger.KindConflict)
		w.wantState("a", "running")
	})
}

func TestKillEndsARestartWhileItStopsAndWhileItBoots(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		for name, again := range map[string]guest{"while it stops": {deaf: true}, "while it boots": {hangs: true}} {
			w.guest("a", guest{deaf: again.deaf})
			w.run("a")
			w.guest("a", again)
			c := w.beginRestart(t.Context(), "a")
			time.Sleep(time.Second)
			pending(t, "restart", c)
			vm, out, err := w.Kill(t.Context(), "a")
			if err != nil || !out.Changed || vm.State != banger.StateStopped {
				t.Errorf("kill %s: %+v, %+v, %v", name, vm, out, err)
			}
			r := <-c
			wantKind(t, r.err, banger.KindCancelled)
			wantWords(t, r.err.Error(), "was killed while it was being")
			settle()
			w.wantState("a", "stopped")
			w.delete("a")
		}
	})
}

// Whatever fails and whenever the daemon dies, the VM is there and the restart
// can be asked for again.
func TestAFailureOrACrashAtAnyStepOfARestartCanBeRepaired(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.run("a")
		w.begun()
		if _, _, err := w.Restart(t.Context(), "a", lifecycle.RestartOptions{}, nil); err != nil {
			t.Fatal(err)
		}
		names := w.begun()
		if !slices.Contains(names, "stop.guest") || !slices.Contains(names, "start.ready") {
			t.Fatalf("steps of a restart: %q", names)
		}
		for _, step := range names {
			w.failAt(step)
			_, _, _ = w.Restart(t.Context(), "a", lifecycle.RestartOptions{}, nil) // some are made up for
			w.repeatRestart(step)
			w.dieAt(step)
			if r := <-w.beginRestart(context.Background(), "a"); !r.died {
				t.Errorf("%s: the daemon did not die: %+v", step, r)
			}
			w.setFault(nil)
			if err := w.restart(); err != nil {
				t.Error(err)
			}
			w.repeatRestart(step)
		}
	})
}

// The restart had the lock when the kill came, and no boot yet that could be ended.
func TestAKillEndsTheRunThatARestartHasBegunMeanwhile(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.run("a")
		var killed <-chan result
		w.afterRead = func(what string) {
			if what != "get" {
				return
			}
			w.afterRead = nil
			killed = begin(func() (r result) {
				r.vm, r.out, r.err = w.Kill(context.Background(), "a")
				return r
			})
			pending(t, "the kill", killed)
		}
		begun := time.Now()
		if _, _, err := w.Restart(t.Context(), "a", lifecycle.RestartOptions{}, nil); err != nil {
			t.Fatal(err)
		}
		if r := <-killed; r.err != nil || r.vm.State != banger.StateStopped || r.vm.LastExit == nil || r.vm.LastExit.Reason != monitor.ReasonKilled {
			t.Errorf("%+v", r)
		}
		if took := time.Since(begun); took >= time.Second { // by the clock of the test's bubble
			t.Errorf("it took %s", took)
		}
	})
}

// What the monitor said before it paused the VM comes last, and is older.
func TestAnAnswerThatComesLateDoesNotHideWhatTheWatcherHeard(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		pauses := func(m *machine) {
			m.pause("the host's disk is full")
			synctest.Wait() // the watcher, which is there from the run before, hears of it
		}
		w.run("a")
		w.guest("a", guest{boots: 5 * time.Second, afterReady: pauses}) // the watcher finds it meanwhile
		if r := <-w.beginRestart(t.Context(), "a"); r.err != nil {
			t.Fatal(r.err)
		}
		w.wantState("a", "paused")
	})
}

// Who waits for another's boot is told of it when the VM has been started anew.
func TestAnAnswerOfAnEarlierRunIsNotTakenForThisOnes(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.run("a")
		next := make(chan (<-chan result), 1)
		w.machine("a").guest.afterReady = func(*machine) {
			w.guest("a", guest{hangs: true})
			if _, _, err := w.Kill(context.Background(), "a"); err != nil {
				t.Error(err)
			}
			started := w.beginStart(t.Context(), "a")
			pending(t, "the next start", started)
			next <- started
		}
		if r := <-w.beginStart(t.Context(), "a"); r.err != nil {
			t.Fatal(r.err)
		}
		if d, err := w.Show(t.Context(), "a"); err != nil || d.Reason != "it is booting" {
			t.Errorf("%s, %q, %v", d.State, d.Reason, err)
		}
		if _, _, err := w.Kill(t.Context(), "a"); err != nil {
			t.Error(err)
		}
		<-<-next
	})
}

func (w *world) repeatRestart(step string) {
	w.t.Helper()
	w.setFault(nil)
	if _, _, err := w.Restart(context.Background(), "a", lifecycle.RestartOptions{}, nil); err != nil {
		w.t.Errorf("after %s: %v", step, err)
	}
	w.wantState("a", "running")
}

func TestOvercommit(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.memory = 3 * banger.GiB / 2
		w.run("a")
		w.create("b")
		_, _, err := w.Start(t.Context(), "b", lifecycle.StartOptions{}, nil)
		wantKind(t, err, banger.KindConflict)
		wantWords(t, banger.NextOf(err), "--overcommit")
		if _, _, err := w.Start(t.Context(), "b", lifecycle.StartOptions{Overcommit: true}, nil); err != nil {
			t.Fatal(err)
		}
		// A restart takes nothing that it does not have.
		if _, _, err := w.Restart(t.Context(), "b", lifecycle.RestartOptions{}, nil); err != nil {
			t.Error(err)
		}
		s := spec()
		s.Overcommit = true
		if _, err := w.Create(t.Context(), "c", s, &lifecycle.StartOptions{}, nil); err != nil {
			t.Errorf("a VM that was made with --overcommit: %v", err)
		}
	})
}
