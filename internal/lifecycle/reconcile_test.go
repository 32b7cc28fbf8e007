package lifecycle_test

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/lifecycle"
	"banger.dev/banger/internal/monitor"
)

func TestALiveVMIsKeptAndWatched(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.run("a")
		before := w.String()
		pid := w.machine("a").status().VMM.PID
		if err := w.restart(); err != nil {
			t.Fatal(err)
		}
		w.same(before)
		w.wantState("a", "running")
		if d, _ := w.Show(t.Context(), "a"); d.Handles == nil || d.Handles.PID != pid || d.Handles.Accel != "tcg" || d.Started == nil {
			t.Errorf("handles: %+v", d.Handles)
		}
		w.machine("a").end(monitor.ReasonPoweroff, "the guest powered off")
		settle()
		if r := w.row("a"); r.Intent != banger.IntentStopped || r.LastExit == nil {
			t.Errorf("the end was not seen: %+v", r)
		}
	})
}

func TestADaemonThatDiesAtAnyStepLeavesNothingToTheNext(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.create("a")
		stopped := w.String()
		w.delete("a")
		empty := w.String()
		for _, step := range []string{
			"create.image", "create.kernel", "create.disks", "create.keys", "create.row",
			"start.intent", "start.plan", "start.handles", "start.monitor", "start.ready",
		} {
			for _, s := range []banger.Spec{spec(), ephemeral()} {
				w.dieAt(step)
				if r := <-w.beginCreate(context.Background(), "a", s, &lifecycle.StartOptions{}); !r.died {
					t.Fatalf("%s: the daemon did not die: %+v", step, r)
				}
				w.setFault(nil)
				if err := w.restart(); err != nil {
					t.Errorf("%s: reconcile: %v", step, err)
				}
				w.afterDeathAt(step, s.Ephemeral, stopped)
				if w.state("a") != "gone" {
					w.delete("a")
				}
				w.same(empty)
			}
		}
	})
}

// afterDeathAt looks at what is left of a VM whose create or start was cut off.
func (w *world) afterDeathAt(step string, ephemeral bool, stopped string) {
	w.t.Helper()
	switch {
	case step == "start.ready": // the monitor runs: the VM is kept
		w.wantState("a", "running")
	case strings.HasPrefix(step, "create.") || ephemeral:
		w.wantState("a", "gone")
	default:
		w.wantState("a", "stopped")
		r := w.row("a")
		if step == "start.monitor" { // the handles were written
			wantWords(w.t, r.LastError, "it was being started when the daemon was killed")
		}
		if got := strings.Replace(w.String(), "intent=running", "intent=stopped", 1); got != stopped {
			w.t.Errorf("%s: left behind:\n%s", step, got)
		}
	}
}

func TestADaemonThatDiesBeforeItKnowsTheMonitorFindsItByTheLock(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.create("a")
		w.guest("a", guest{onSpawn: func(*machine) { runtime.Goexit() }})
		if r := <-w.beginStart(context.Background(), "a"); !r.died {
			t.Fatalf("%+v", r)
		}
		w.guest("a", guest{})
		w.Close()
		w.boot()
		w.wantState("a", "running")
		if err := w.Reconcile(t.Context()); err != nil {
			t.Error(err)
		}
		d, err := w.Show(t.Context(), "a")
		if err != nil || d.Handles == nil || d.Handles.MonitorPID != w.machine("a").status().MonitorPID {
			t.Errorf("handles: %+v, %v", d.Handles, err)
		}
		if vm, _, err := w.Kill(t.Context(), "a"); err != nil || vm.State != banger.StateStopped {
			t.Errorf("kill: %+v, %v", vm, err)
		}
	})
}

func TestAVMThatEndedWhileNoDaemonRanIsDemotedOrDeleted(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.run("off")
		w.run("panicked")
		w.run("killed")
		if _, err := w.Create(t.Context(), "gone", ephemeral(), &lifecycle.StartOptions{}, nil); err != nil {
			t.Fatal(err)
		}
		w.Close()
		w.machine("off").end(monitor.ReasonPoweroff, "the guest powered off")
		w.machine("panicked").end(monitor.ReasonPanic, "the guest's kernel panicked: oops")
		w.machine("killed").kill()
		w.machine("gone").end(monitor.ReasonPoweroff, "the guest powered off")
		settle()
		if err := w.restart(); err != nil {
			t.Fatal(err)
		}
		for name, words := range map[string]string{"off": "", "panicked": "oops", "killed": "its monitor (pid "} {
			w.wantState(name, "stopped")
			if got := w.row(name).LastError; !strings.Contains(got, words) || (words == "") != (got == "") {
				t.Errorf("%s: last error %q", name, got)
			}
		}
		w.wantState("gone", "gone")
		if got := w.String(); strings.Contains(got, "handles.json") || strings.Contains(got, "run ") || strings.Contains(got, "live ") {
			t.Errorf("left behind:\n%s", got)
		}
		before := w.row("killed")
		if err := w.restart(); err != nil {
			t.Fatal(err)
		}
		if after := w.row("killed"); after.LastError != before.LastError || !after.LastExit.Time.Equal(before.LastExit.Time) {
			t.Errorf("the end was recorded twice: %+v, then %+v", before.LastExit, after.LastExit)
		}
	})
}

func TestAnEndThatWasRecordedIsNotRecordedAgainAfterADeathBeforeTheTeardown(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.run("a")
		handles := w.layout.VM(w.row("a").ID).Handles()
		kept, err := os.ReadFile(handles)
		if err != nil {
			t.Fatal(err)
		}
		w.machine("a").end(monitor.ReasonPoweroff, "the guest powered off")
		settle()
		before := w.row("a")
		if err := os.WriteFile(handles, kept, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := w.restart(); err != nil {
			t.Fatal(err)
		}
		if after := w.row("a"); after.LastError != "" || *after.LastExit != *before.LastExit {
			t.Errorf("row: %+v, %+v", after, after.LastExit)
		}
		if _, err := os.Stat(handles); err == nil {
			t.Error("handles.json is left")
		}
	})
}

func TestAStartThatWasCutOffIsNotTakenForTheRunBefore(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.run("a")
		if _, _, err := w.Stop(t.Context(), "a", 0); err != nil {
			t.Fatal(err)
		}
		w.dieAt("start.monitor")
		<-w.beginStart(t.Context(), "a")
		w.setFault(nil)
		if err := w.restart(); err != nil {
			t.Fatal(err)
		}
		r := w.row("a")
		wantWords(t, r.LastError, "it was being started when the daemon was killed")
		if r.LastExit.Reason != monitor.ReasonMonitorDied {
			t.Errorf("last exit: %+v", r.LastExit)
		}
	})
}

func TestNothingIsAdoptedAfterARebootOfTheHost(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.run("a")
		if _, err := w.Create(t.Context(), "gone", ephemeral(), &lifecycle.StartOptions{}, nil); err != nil {
			t.Fatal(err)
		}
		w.Close()
		if err := w.host.reboot(w.layout.RunVMs()); err != nil {
			t.Fatal(err)
		}
		if err := w.restart(); err != nil {
			t.Fatal(err)
		}
		w.wantState("a", "stopped")
		w.wantState("gone", "gone")
		r := w.row("a")
		wantWords(t, r.LastError, "the host was restarted")
		if r.Intent != banger.IntentRunning {
			t.Errorf("intent: %s", r.Intent)
		}
	})
}

func TestAMonitorThatDoesNotAnswerHoldsUpNobody(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.run("mute")
		w.run("fine")
		w.run("dead")
		w.Close()
		w.machine("mute").setMute(true)
		w.machine("dead").kill()
		w.boot()
		begun := time.Now()
		err := w.Reconcile(t.Context())
		if err == nil || !strings.Contains(err.Error(), "VM mute") || strings.Contains(err.Error(), "VM fine") {
			t.Errorf("reconcile: %v", err)
		}
		if took := time.Since(begun); took > 10*time.Second {
			t.Errorf("it took %s", took)
		}
		w.wantState("mute", "running")
		w.wantState("fine", "running")
		w.wantState("dead", "stopped")
		if vm, out, err := w.Kill(t.Context(), "mute"); err != nil || !out.Changed || vm.State != banger.StateStopped {
			t.Errorf("kill: %+v, %+v, %v", vm, out, err)
		}
	})
}

func TestAVMThatIsEndingWhenTheDaemonStartsIsSettled(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.run("a")
		w.Close()
		m := w.machine("a")
		m.end(monitor.ReasonPoweroff, "the guest powered off")
		<-m.done // its sockets are closed, its lock is held
		if err := w.restart(); err != nil {
			t.Error(err)
		}
		if r := w.row("a"); r.Intent != banger.IntentStopped || r.LastExit == nil || r.LastExit.Reason != monitor.ReasonPoweroff {
			t.Errorf("row: %+v", r)
		}
	})
}

func TestHandlesThatCannotBeReadAreAsGoodAsNone(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.run("live")
		w.run("dead")
		w.Close()
		for _, name := range []string{"live", "dead"} {
			if err := os.WriteFile(w.layout.VM(w.row(name).ID).Handles(), []byte(`{"pid": 1, `), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		w.machine("dead").kill()
		w.boot()
		w.wantState("dead", "stopped")
		wantWords(t, w.row("dead").LastError, "its monitor was killed")
		if err := w.Reconcile(t.Context()); err != nil {
			t.Error(err)
		}
		w.wantState("live", "running")
		if vm, _, err := w.Stop(t.Context(), "live", 0); err != nil || vm.State != banger.StateStopped {
			t.Errorf("stop: %+v, %v", vm, err)
		}
		if got := w.String(); strings.Contains(got, "handles.json") {
			t.Errorf("left behind:\n%s", got)
		}
	})
}

func TestDirectoriesWithoutARowAreLeftAndStraySocketsAreNot(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.run("a")
		const stray, held = "1111111111111111", "2222222222222222"
		for _, dir := range []string{
			filepath.Join(w.layout.VMs(), stray), filepath.Join(w.layout.VMs(), held),
			filepath.Join(w.layout.RunVMs(), stray), filepath.Join(w.layout.RunVMs(), held), filepath.Join(w.layout.RunVMs(), "not-a-vm"),
		} {
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		lock, err := takeLock(w.layout.VM(held).Lock()) // the database was lost, its VM runs on
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = lock.Close() }()
		want := strings.Replace(strings.Replace(w.String(), "run "+stray+"/\n", "", 1), "run "+stray+"/file\n", "", 1)
		if err := w.restart(); err != nil {
			t.Fatal(err)
		}
		w.same(want)
	})
}

func TestHalfMadeFilesOfAVMThatIsNotAliveAreRemoved(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.create("dead")
		w.run("live")
		dead, live := w.layout.VM(w.row("dead").ID), w.layout.VM(w.row("live").ID)
		before := w.String()
		kept := filepath.Join(live.Dir, ".exit.json77") // its monitor may be writing it
		for _, path := range []string{filepath.Join(dead.Dir, ".handles.json77"), dead.SSH() + ".new", filepath.Join(dead.Dir, ".new-123"), filepath.Join(dead.Dir, ".config.img99"), kept} {
			if err := os.WriteFile(path, []byte("half"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(live.Dir, ".handles.json77"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := w.restart(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(live.Dir, ".handles.json77")); err == nil {
			t.Error("what a daemon that was killed was writing of a live VM is still there")
		}
		if _, err := os.Stat(kept); err != nil {
			t.Errorf("a file of a live VM: %v", err)
		}
		if _, _, err := w.Kill(t.Context(), "live"); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(kept); err == nil {
			t.Error("what was half-made of a VM outlives its run")
		}
		if _, _, err := w.Start(t.Context(), "live", lifecycle.StartOptions{}, nil); err != nil {
			t.Fatal(err)
		}
		w.same(before)
	})
}

func TestARowWithoutItsDirectoryIsBrokenAndCanBeDeleted(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		before := w.String()
		w.run("a")
		id := w.row("a").ID
		w.Close()
		w.machine("a").kill()
		if err := os.RemoveAll(w.layout.VM(id).Dir); err != nil {
			t.Fatal(err)
		}
		if err := w.restart(); err != nil {
			t.Fatal(err)
		}
		w.wantState("a", "broken")
		d, err := w.Show(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		wantWords(t, d.Reason, "system disk is gone", "banger vm delete a")
		w.delete("a")
		if err := w.restart(); err != nil {
			t.Fatal(err)
		}
		w.same(before)
	})
}
