package lifecycle_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/lifecycle"
	"banger.dev/banger/internal/monitor"
)

func TestHowAVMEndsByItself(t *testing.T) {
	for what, c := range map[string]struct {
		end    func(m *machine)
		reason string
		intent banger.Intent
		words  []string // of last_error; none: there is none
	}{
		"poweroff in the guest": {
			func(m *machine) { m.end(monitor.ReasonPoweroff, "the guest powered off") }, "poweroff", banger.IntentStopped, nil,
		},
		"panic": {
			func(m *machine) { m.end(monitor.ReasonPanic, "the guest's kernel panicked: oops") }, "panic", banger.IntentRunning,
			[]string{"it ended at ", "kernel panicked: oops", "something is wrong"},
		},
		"its VMM crashes": {
			func(m *machine) { m.end(monitor.ReasonVMMFailed, "the VMM ended by itself") }, "vmm-failed", banger.IntentRunning,
			[]string{"the VMM ended by itself"},
		},
		"its client is gone": {
			func(m *machine) { m.end(monitor.ReasonKilled, "its client is gone") }, "killed", banger.IntentRunning,
			[]string{"its client is gone"},
		},
		"its monitor is killed": {
			func(m *machine) { m.kill() }, "monitor-died", banger.IntentRunning,
			[]string{"its monitor (pid 102) was killed, and the VMM (pid 103) with it"},
		},
	} {
		t.Run(what, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.create("a")
				before := w.String()
				<-w.beginStart(t.Context(), "a")
				c.end(w.machine("a"))
				settle()
				r := w.row("a")
				if r.LastExit == nil || r.LastExit.Reason != c.reason || r.LastExit.Time.IsZero() || r.Intent != c.intent {
					t.Errorf("row: intent %s, exit %+v", r.Intent, r.LastExit)
				}
				if wantWords(t, r.LastError, c.words...); c.words == nil && r.LastError != "" {
					t.Errorf("last error: %s", r.LastError)
				}
				w.wantState("a", "stopped")
				if after := w.String(); c.intent == banger.IntentStopped && after != before {
					t.Errorf("left behind:\n%s", after)
				}

				// It can be started again, and the end of that run is told anew.
				if _, out, err := w.Start(t.Context(), "a", lifecycle.StartOptions{}, nil); err != nil || !out.Changed {
					t.Fatalf("start: %+v, %v", out, err)
				}
				if r := w.row("a"); r.LastError != "" {
					t.Errorf("after a start: %s", r.LastError)
				}
				if vm, out, err := w.Stop(t.Context(), "a", 0); err != nil || !out.Changed || vm.LastExit.Reason != monitor.ReasonPoweroff {
					t.Errorf("stop: %+v, %+v, %v", vm, out, err)
				}
			})
		})
	}
}

func TestADeadVMIsNeverShownAsRunning(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		for i, look := range []func(name string) (banger.VM, bool){
			func(name string) (banger.VM, bool) {
				list, err := w.List(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				for _, vm := range list {
					if vm.Name == name {
						return vm, true
					}
				}
				return banger.VM{}, false
			},
			func(name string) (banger.VM, bool) {
				d, err := w.Show(t.Context(), name)
				if err != nil && banger.KindOf(err) != banger.KindNotFound {
					t.Fatal(err)
				}
				return d.VM, err == nil
			},
		} {
			name := fmt.Sprintf("v%d", i)
			w.run(name)
			w.Close() // no watcher sees it end
			w.machine(name).kill()
			vm, ok := look(name)
			if !ok || vm.State != banger.StateStopped || vm.LastExit == nil || vm.LastExit.Reason != monitor.ReasonMonitorDied || vm.Started != nil {
				t.Errorf("a VM whose monitor was just killed: %+v", vm)
			}
			w.boot()
			if _, err := w.Create(t.Context(), name+"e", ephemeral(), &lifecycle.StartOptions{}, nil); err != nil {
				t.Fatal(err)
			}
			w.Close()
			w.machine(name + "e").kill()
			if vm, ok := look(name + "e"); ok {
				t.Errorf("an ephemeral VM whose monitor was just killed: %+v", vm)
			}
			w.boot()
		}
	})
}

func TestAnEphemeralVMThatEndsByItselfIsDeleted(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		before := w.String()
		for _, end := range []func(m *machine){
			func(m *machine) { m.end(monitor.ReasonPoweroff, "the guest powered off") },
			func(m *machine) { m.end(monitor.ReasonKilled, "its client is gone") },
			func(m *machine) { m.kill() },
		} {
			if _, err := w.Create(t.Context(), "a", ephemeral(), &lifecycle.StartOptions{}, nil); err != nil {
				t.Fatal(err)
			}
			end(w.machine("a"))
			settle()
			w.same(before)
		}
	})
}

func TestAnEndedEphemeralVMIsNotFoundByAStart(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		before := w.String()
		if _, err := w.Create(t.Context(), "a", ephemeral(), &lifecycle.StartOptions{}, nil); err != nil {
			t.Fatal(err)
		}
		w.Close()
		w.machine("a").kill()
		_, _, err := w.Start(t.Context(), "a", lifecycle.StartOptions{}, nil)
		wantKind(t, err, banger.KindNotFound)
		w.same(before)
	})
}

func TestAVMThatIsAboutToEndIsStartedAgainOrFoundStopped(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.run("a")
		powerOff := func() {
			m := w.machine("a")
			m.end(monitor.ReasonPoweroff, "the guest powered off")
			<-m.done // its sockets are closed, its lock is held
		}
		powerOff()
		if _, out, err := w.Start(t.Context(), "a", lifecycle.StartOptions{}, nil); err != nil || !out.Changed {
			t.Errorf("start: %+v, %v", out, err)
		}
		w.wantState("a", "running")
		powerOff()
		vm, out, err := w.Stop(t.Context(), "a", 0)
		if err != nil || out.Note != "" || vm.State != banger.StateStopped || vm.LastExit.Reason != monitor.ReasonPoweroff {
			t.Errorf("stop: %+v, %+v, %v", vm, out, err)
		}
	})
}

func TestAVMThatIsStartedAgainAtOnceIsWatchedToItsEnd(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.run("a")
		for range 5 {
			w.machine("a").kill()
			// The watcher and this start both want the VM's lock now.
			if _, _, err := w.Start(t.Context(), "a", lifecycle.StartOptions{}, nil); err != nil {
				t.Fatal(err)
			}
			w.wantState("a", "running")
		}
		settle()
		w.wantState("a", "running")
		w.machine("a").end(monitor.ReasonPoweroff, "the guest powered off")
		settle()
		if r := w.row("a"); r.Intent != banger.IntentStopped || r.LastExit == nil || r.LastExit.Reason != monitor.ReasonPoweroff {
			t.Errorf("row: %+v", r)
		}
	})
}

// The watcher of the run before is still there, and must turn to the new one.
func TestAVMThatIsRestartedCanBePausedAtOnce(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.run("a")
		for range 3 {
			if _, _, err := w.Restart(t.Context(), "a", lifecycle.RestartOptions{}, nil); err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			if _, out, err := w.Pause(t.Context(), "a"); err != nil || !out.Changed {
				t.Errorf("pause: %+v, %v", out, err)
			}
			if took := time.Since(begun); took > 2*time.Second {
				t.Errorf("it took %s until the watcher looked", took)
			}
			w.wantState("a", "paused")
		}
	})
}

// The pause waits for what the watcher hears, with the lock that the watcher, who
// has seen the run before end, waits for.
func TestAPauseThatComesBeforeTheWatcherIsHeard(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.run("a")
		paused := make(chan error, 1)
		w.setFault(func(step string) error {
			switch step {
			case "stop.guest": // the restart has the lock: who asks now is next
				go func() {
					_, _, err := w.Pause(t.Context(), "a")
					paused <- err
				}()
				settle()
			case "start.plan": // the watcher asks
				settle()
			}
			return nil
		})
		if _, _, err := w.Restart(t.Context(), "a", lifecycle.RestartOptions{}, nil); err != nil {
			t.Fatal(err)
		}
		if err := <-paused; err != nil {
			t.Error(err)
		}
		w.wantState("a", "paused")
	})
}

func TestAVMIsWatchedThoughItsMonitorDidNotAnswerForAWhile(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.run("a")
		w.Close()
		w.boot()
		w.machine("a").setMute(true)
		if err := w.Reconcile(t.Context()); err == nil {
			t.Error("reconcile says nothing of a monitor that does not answer")
		}
		if d, err := w.Show(t.Context(), "a"); err != nil || d.State != banger.StateRunning || d.Reason != "its monitor has not answered yet" {
			t.Errorf("show: %s, %q, %v", d.State, d.Reason, err)
		}
		w.machine("a").kill()
		settle()
		if r := w.row("a"); r.LastExit == nil || r.LastExit.Reason != monitor.ReasonMonitorDied {
			t.Errorf("row: %+v", r)
		}
	})
}

func TestCloseWaitsForTheWatchersAndLeavesTheVMs(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.run("a")
		w.run("b")
		before := w.String()
		w.Close()
		w.Close()
		time.Sleep(time.Hour)
		synctest.Wait()
		w.same(before)
	})
}
