package lifecycle_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/lifecycle"
	"banger.dev/banger/internal/monitor"
)

func TestAFailureAtAnyStepOfAStartLeavesTheVMStoppedAndSaysWhy(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.create("a")
		before := w.String()
		for _, step := range []string{"start.intent", "start.plan", "start.handles", "start.monitor", "start.ready"} {
			w.failAt(step)
			_, _, err := w.Start(t.Context(), "a", lifecycle.StartOptions{}, nil)
			if !errors.Is(err, errFault) {
				t.Errorf("%s failing: %v", step, err)
			}
			w.same(before)
			w.wantState("a", "stopped")
			wantWords(t, w.row("a").LastError, step, "a fault was asked for")
		}
		w.failAt("")
		if _, _, err := w.Start(t.Context(), "a", lifecycle.StartOptions{}, nil); err != nil {
			t.Fatal(err)
		}
		if r := w.row("a"); r.LastError != "" {
			t.Errorf("the error of an earlier start is still there: %s", r.LastError)
		}
	})
}

func TestAFailedStartThatCouldNotBeRecordedIsByTheNextLook(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.create("a")
		before := w.String()
		w.guest("a", guest{panics: true})
		w.failAt("fail.row")
		if _, _, err := w.Start(t.Context(), "a", lifecycle.StartOptions{}, nil); err == nil {
			t.Error("it has started")
		}
		w.failAt("")
		w.wantState("a", "stopped")
		wantWords(t, w.row("a").LastError, "kernel panicked")
		if got := strings.Replace(w.String(), "intent=running", "intent=stopped", 1); got != before {
			t.Errorf("left behind:\n%s", got)
		}
	})
}

func TestAStartReturnsWhenTheGuestIsReadyAndTellsItsProcesses(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		release := make(chan struct{})
		w.guest("a", guest{onReady: release})
		w.create("a")
		var stages []string
		c := begin(func() (r result) {
			r.detail, r.out, r.err = w.Start(t.Context(), "a", lifecycle.StartOptions{}, func(p banger.Progress) { stages = append(stages, p.Stage) })
			return r
		})
		pending(t, "start", c)
		w.wantState("a", "running")
		if d, _ := w.Show(t.Context(), "a"); d.Reason != "it is booting" || d.Intent != banger.IntentRunning {
			t.Errorf("in the boot: reason %q, intent %s", d.Reason, d.Intent)
		}
		close(release)
		r := <-c
		if r.err != nil || !r.out.Changed || r.detail.Reason != "" || r.detail.Started == nil {
			t.Errorf("start: %+v", r)
		}
		s := w.machine("a").status()
		if h := r.detail.Handles; h == nil || h.PID != s.VMM.PID || h.MonitorPID != s.MonitorPID || h.BootID != "boot-1" || h.Accel != "tcg" || h.Disk != "qcow2" {
			t.Errorf("handles: %+v", h)
		}
		if !slices.Equal(stages, []string{"boot"}) {
			t.Errorf("reported: %q", stages)
		}
	})
}

func TestAGuestThatRebootsIsShownWithItsNewVMM(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.run("a")
		m := w.machine("a")
		m.change(func(s *monitor.Status) { s.VMM.PID, s.VMM.Start, s.Boots = 999, startOf(999), 2 })
		synctest.Wait()
		d, err := w.Show(t.Context(), "a")
		if err != nil || d.Handles == nil || d.Handles.PID != 999 || d.Handles.MonitorPID != m.status().MonitorPID {
			t.Errorf("show: %+v, %v", d.Handles, err)
		}
	})
}

func TestTheMonitorIsToldWhatTheUserAskedFor(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := ephemeral()
		s.Net, s.VCPUs = banger.NetNone, 2
		_, err := w.Create(t.Context(), "a", s, &lifecycle.StartOptions{Leased: true, Timeout: 7 * time.Second}, nil)
		if err != nil {
			t.Fatal(err)
		}
		o := w.machine("a").order
		if o.BootTimeout != 7*time.Second || o.LeaseTimeout != lifecycle.LeaseTimeout || o.Machine.NIC != nil || o.Machine.VCPUs != 2 || o.Machine.Memory != banger.GiB {
			t.Errorf("order: %+v", o)
		}
		for i, d := range o.Machine.Disks {
			if writable := i == 1 || i == 2; d.ReadOnly == writable || d.Volatile != writable || d.Format == "" || (d.Backing != "") != writable {
				t.Errorf("disk %d: %+v", i, d)
			}
		}
	})
}

func TestTheEndOfTheCallerInTheBootKillsIt(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.guest("a", guest{hangs: true})
		w.create("a")
		before := w.String()
		ctx, cancel := context.WithCancel(t.Context())
		c := w.beginStart(ctx, "a")
		pending(t, "start", c)
		cancel()
		wantKind(t, (<-c).err, banger.KindCancelled)
		w.same(before)
	})
}

func TestKillInterruptsAStartThatHangsInTheBoot(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		for what, mute := range map[string]bool{"a monitor that answers": false, "a monitor that does not": true} {
			w.guest("a", guest{hangs: true, onSpawn: func(m *machine) { m.setMute(mute) }})
			w.create("a")
			before := w.String()
			c := w.beginStart(t.Context(), "a")
			pending(t, "start", c)
			vm, out, err := w.Kill(t.Context(), "a")
			if err != nil || !out.Changed || vm.State != banger.StateStopped {
				t.Errorf("%s: kill: %s, %+v, %v", what, vm.State, out, err)
			}
			r := <-c
			wantKind(t, r.err, banger.KindCancelled)
			wantWords(t, r.err.Error(), "was killed while it was being started")
			w.same(before)
			if r := w.row("a"); r.LastError != "" || r.Intent != banger.IntentStopped {
				t.Errorf("%s: row %+v", what, r)
			}
			w.delete("a")
		}
	})
}

func TestKillInterruptsTheBootOfACreate(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		before := w.String()
		for name, s := range map[string]banger.Spec{"stays": spec(), "goes": ephemeral()} {
			w.guest(name, guest{hangs: true})
			c := w.beginCreate(t.Context(), name, s, &lifecycle.StartOptions{})
			vm, out, err := w.Kill(t.Context(), name)
			if err != nil || !out.Changed || vm.State != banger.StateStopped {
				t.Errorf("kill: %s, %+v, %v", vm.State, out, err)
			}
			wantKind(t, (<-c).err, banger.KindCancelled)
		}
		w.wantState("stays", "stopped")
		w.wantState("goes", "gone")
		w.delete("stays")
		w.same(before)
	})
}

func TestKillInterruptsAStartBeforeThereIsAMonitor(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.create("a")
		before := w.String()
		reached, goOn := make(chan struct{}), make(chan struct{})
		w.setFault(func(step string) error {
			if step == "start.monitor" {
				close(reached)
				<-goOn
			}
			return nil
		})
		c := w.beginStart(t.Context(), "a")
		<-reached
		if d, _ := w.Show(t.Context(), "a"); d.State != banger.StateStopped || d.Reason != "it is being started" {
			t.Errorf("shown as %s, %q", d.State, d.Reason)
		}
		k := begin(func() (r result) {
			r.vm, r.out, r.err = w.Kill(context.Background(), "a")
			return r
		})
		close(goOn)
		if r := <-k; r.err != nil || !r.out.Changed {
			t.Errorf("kill: %+v", r)
		}
		wantKind(t, (<-c).err, banger.KindCancelled)
		w.same(before)
	})
}

func TestTwoVerbsOnOneVMQueueAndOnTwoVMsDoNot(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		release := make(chan struct{})
		w.guest("a", guest{onReady: release})
		w.create("a")
		w.create("b")
		first := w.beginStart(t.Context(), "a")
		second := w.beginStart(t.Context(), "a")
		stop := w.beginStop("a")
		if r := <-w.beginStart(t.Context(), "b"); r.err != nil || !r.out.Changed {
			t.Errorf("the start of another VM: %+v", r)
		}
		pending(t, "the first start", first)
		pending(t, "the second start", second)
		pending(t, "the stop", stop)
		close(release)
		if r := <-first; r.err != nil || !r.out.Changed {
			t.Errorf("the first start: %+v", r)
		}
		<-second // before or after the stop
		if r := <-stop; r.err != nil || !r.out.Changed {
			t.Errorf("the stop: %+v", r)
		}
		w.wantState("b", "running")
	})
}

func TestAVerbThatNobodyWaitsForAnyMoreGivesUpItsPlaceInTheQueue(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.guest("a", guest{hangs: true})
		w.create("a")
		first := w.beginStart(t.Context(), "a")
		ctx, cancel := context.WithCancel(t.Context())
		second := w.beginStart(ctx, "a")
		cancel()
		wantKind(t, (<-second).err, banger.KindCancelled)
		pending(t, "the first start", first)
		w.delete("a")
		wantKind(t, (<-first).err, banger.KindCancelled)
		w.wantState("a", "gone")
	})
}

func TestAStartThatWaitsForTheInitHoldsUpNobody(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.guest("a", guest{initNever: true})
		w.create("a")
		c := begin(func() (r result) {
			r.detail, r.out, r.err = w.Start(context.Background(), "a", lifecycle.StartOptions{Wait: lifecycle.WaitInit}, nil)
			return r
		})
		pending(t, "start", c)
		if r := <-w.beginStop("a"); r.err != nil || !r.out.Changed {
			t.Errorf("stop: %+v", r)
		}
		r := <-c
		wantKind(t, r.err, banger.KindInternal)
		wantWords(t, r.err.Error(), "ended while its init started")
	})
}

func TestAStartOfAVMWhoseBootAnotherDaemonBeganWaitsForIt(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		release := make(chan struct{})
		w.create("a")
		w.dieWhenSpawned("a", guest{onReady: release})
		if err := w.restart(); err != nil {
			t.Fatal(err)
		}
		c := w.beginStart(t.Context(), "a")
		pending(t, "start", c)
		close(release)
		if r := <-c; r.err != nil || r.out.Changed || r.detail.Reason != "" {
			t.Errorf("start: %+v", r)
		}
	})
}

// dieWhenSpawned starts a VM and has the daemon die as soon as its VMM runs.
func (w *world) dieWhenSpawned(name string, g guest) {
	w.t.Helper()
	w.guest(name, g)
	w.dieAt("start.ready")
	if r := <-w.beginStart(context.Background(), name); !r.died {
		w.t.Fatalf("the daemon did not die in the start: %+v", r)
	}
	w.setFault(nil)
}

func TestAStartWithoutItsSystemDiskSaysThatTheVMIsBroken(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.create("a")
		if err := os.RemoveAll(w.layout.VM(w.row("a").ID).Dir); err != nil {
			t.Fatal(err)
		}
		before := w.String()
		w.wantState("a", "broken")
		_, _, err := w.Start(t.Context(), "a", lifecycle.StartOptions{}, nil)
		wantKind(t, err, banger.KindConflict)
		wantWords(t, err.Error(), "system disk is gone")
		if next := banger.NextOf(err); next != "banger vm delete a" {
			t.Errorf("next: %q", next)
		}
		w.same(before)
		w.delete("a")
		w.wantState("a", "gone")
	})
}
