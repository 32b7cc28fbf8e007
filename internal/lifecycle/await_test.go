package lifecycle_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/lifecycle"
	"banger.dev/banger/internal/monitor"
)

func (w *world) beginAwait(name string, until lifecycle.Condition) <-chan result {
	return begin(func() (r result) {
		r.vm, r.out.Changed, r.err = w.Await(context.Background(), name, until)
		return r
	})
}

func TestAwaitReturnsWhenTheVMIsAsWanted(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.create("a")
		w.guest("a", guest{boots: 5 * time.Second})
		running, ready := w.beginAwait("a", lifecycle.UntilRunning), w.beginAwait("a", lifecycle.UntilReady)
		if r := <-w.beginAwait("a", lifecycle.UntilStopped); r.err != nil || !r.out.Changed || r.vm.State != banger.StateStopped {
			t.Errorf("a VM that is stopped already: %+v", r)
		}
		pending(t, "the wait for a stopped VM to run", running)
		start := w.beginStart(t.Context(), "a")
		if r := <-running; r.err != nil || r.vm.State != banger.StateRunning {
			t.Errorf("running: %+v", r)
		}
		pending(t, "the wait for a VM that boots to be ready", ready)
		stopped := w.beginAwait("a", lifecycle.UntilStopped)
		if r := <-ready; r.err != nil || r.vm.State != banger.StateRunning {
			t.Errorf("ready: %+v", r)
		}
		<-start
		pending(t, "the wait for a VM that runs to stop", stopped)
		w.machine("a").end(monitor.ReasonPoweroff, "the guest powered off")
		if r := <-stopped; r.err != nil || r.vm.State != banger.StateStopped || r.vm.LastExit == nil {
			t.Errorf("stopped: %+v", r)
		}
	})
}

func TestAwaitGivesUpWithItsContext(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.run("a")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		vm, reached, err := w.Await(ctx, "a", lifecycle.UntilStopped)
		if err != nil || reached || vm.State != banger.StateRunning {
			t.Errorf("%+v, %t, %v", vm, reached, err)
		}
		_, _, err = w.Await(t.Context(), "nothing", lifecycle.UntilStopped)
		wantKind(t, err, banger.KindNotFound)
	})
}

func TestAVMThatIsDeletedHasStoppedAndWillNotRun(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.run("a")
		w.create("b")
		stopped, ready := w.beginAwait("a", lifecycle.UntilStopped), w.beginAwait("b", lifecycle.UntilReady)
		w.delete("a")
		w.delete("b")
		if r := <-stopped; r.err != nil || !r.out.Changed || r.vm.State != banger.StateStopped || r.vm.Name != "a" {
			t.Errorf("stopped: %+v", r)
		}
		wantKind(t, (<-ready).err, banger.KindNotFound)
	})
}

func TestAWaitThatIsOverAtOnceStillSaysHowTheVMIs(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.create("a")
		over, cancel := context.WithCancel(t.Context())
		cancel()
		if vm, reached, err := w.Await(over, "a", lifecycle.UntilRunning); err != nil || reached || vm.State != banger.StateStopped {
			t.Errorf("%+v, %v, %v", vm, reached, err)
		}
	})
}

// It is told when there is something to look at.
func TestAWaitDoesNothingWhileNothingHappens(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.run("a")
		stopped := w.beginAwait("a", lifecycle.UntilStopped)
		w.afterRead = func(what string) { t.Errorf("it looks: %s", what) }
		time.Sleep(time.Hour)
		synctest.Wait()
		w.afterRead = nil
		if _, _, err := w.Kill(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		if r := <-stopped; r.err != nil || !r.out.Changed {
			t.Errorf("%+v", r)
		}
	})
}
