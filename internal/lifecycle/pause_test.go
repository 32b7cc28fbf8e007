package lifecycle_test

import (
	"testing"
	"time"

	"banger.dev/banger"
)

func TestAPauseIsSeenAsSoonAsItReturnsAndSurvivesTheDaemon(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.run("a")
		vm, out, err := w.Pause(t.Context(), "a")
		if err != nil || !out.Changed || vm.State != banger.StatePaused || vm.Intent != banger.IntentRunning {
			t.Fatalf("pause: %+v, %+v, %v", vm, out, err)
		}
		if err := w.restart(); err != nil {
			t.Fatal(err)
		}
		w.wantState("a", "paused")
		m := w.machine("a")
		m.mu.Lock()
		m.drift = -time.Hour
		m.mu.Unlock()
		vm, out, err = w.Resume(t.Context(), "a")
		if err != nil || !out.Changed || vm.State != banger.StateRunning {
			t.Fatalf("resume: %+v, %+v, %v", vm, out, err)
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.drift != 0 {
			t.Errorf("the guest's clock is %s off after the pause", m.drift)
		}
	})
}

func TestAVMMThatPausesAgainWhenItIsResumedSaysWhy(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.guest("a", guest{sticks: "No space left on device"})
		w.run("a")
		w.machine("a").pause("No space left on device")
		settle()
		_, _, err := w.Resume(t.Context(), "a")
		wantKind(t, err, banger.KindUnavailable)
		wantWords(t, err.Error(), "paused it again", "No space left on device")
		w.wantState("a", "paused")
		// Nor does that keep it from being stopped.
		vm, out, err := w.Stop(t.Context(), "a", 0)
		if err != nil || !out.Changed || vm.State != banger.StateStopped {
			t.Errorf("stop: %+v, %+v, %v", vm, out, err)
		}
	})
}

// A guest that was left booting by a daemon that died is not paused: its boot
// would be given up.
func TestAGuestThatBootsIsNotPaused(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.create("a")
		w.dieWhenSpawned("a", guest{boots: 10 * time.Second})
		if err := w.restart(); err != nil {
			t.Fatal(err)
		}
		_, _, err := w.Pause(t.Context(), "a")
		wantKind(t, err, banger.KindConflict)
		wantWords(t, err.Error(), "booting")
		time.Sleep(10 * time.Second)
		settle()
		if _, _, err := w.Pause(t.Context(), "a"); err != nil {
			t.Error(err)
		}
	})
}

func TestAPauseThatTheMonitorDoesNotAnswerIsGivenUp(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.run("a")
		w.machine("a").setMute(true)
		_, _, err := w.Pause(t.Context(), "a")
		wantKind(t, err, banger.KindUnavailable)
		wantWords(t, err.Error(), "pause of VM a")
		w.wantState("a", "running")
	})
}

func TestAPauseInWhichTheVMEndsDoesNotWaitForIt(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.guest("a", guest{diesPaused: true})
		w.run("a")
		begun := time.Now()
		_, _, err := w.Pause(t.Context(), "a")
		wantKind(t, err, banger.KindUnavailable)
		wantWords(t, err.Error(), "it has ended meanwhile")
		if took := time.Since(begun); took > time.Second {
			t.Errorf("it took %s", took)
		}
		w.wantState("a", "stopped")
	})
}
