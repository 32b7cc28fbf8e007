package lifecycle_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/lifecycle"
)

// scribble changes a VM's two disks, as a guest does.
func (w *world) scribble(name string) {
	w.t.Helper()
	files := w.layout.VM(w.row(name).ID)
	for _, disk := range []string{files.SystemDisk("qcow2"), files.WorkDisk("qcow2")} {
		f, err := os.OpenFile(disk, os.O_APPEND|os.O_WRONLY, 0)
		if err == nil {
			_, err = f.WriteString("written by the guest")
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

// written says which of a VM's disks a guest has written to.
func (w *world) written(name string) (system, work bool) {
	w.t.Helper()
	files := w.layout.VM(w.row(name).ID)
	has := func(path string) bool {
		content, err := os.ReadFile(path)
		if err != nil {
			w.t.Fatal(err)
		}
		return slices.Equal(content[max(0, len(content)-20):], []byte("written by the guest"))
	}
	return has(files.SystemDisk("qcow2")), has(files.WorkDisk("qcow2"))
}

func TestResetThrowsAwayTheSystemDiskAndKeepsTheWorkDisk(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.create("a")
		before := w.String()
		w.scribble("a")
		d, out, err := w.Reset(t.Context(), "a", false, nil)
		if err != nil || !out.Changed || d.State != banger.StateStopped || d.ImageDigest != imageDigest {
			t.Fatalf("reset: %+v, %+v, %v", d.VM, out, err)
		}
		if system, work := w.written("a"); system || !work {
			t.Errorf("still written: the system disk %t, the work disk %t", system, work)
		}
		w.same(before)
		if last, err := w.events.Last(t.Context(), d.ID); err != nil || last.Type != banger.EventVMReset {
			t.Errorf("the last event: %+v, %v", last, err)
		}
		if _, _, err := w.Start(t.Context(), "a", lifecycle.StartOptions{}, nil); err != nil {
			t.Error(err)
		}
		_, _, err = w.Reset(t.Context(), "a", false, nil)
		wantKind(t, err, banger.KindConflict)
		if next := banger.NextOf(err); next != "banger vm stop a, or banger vm reset --force a" {
			t.Errorf("next: %q", next)
		}
	})
}

func TestAResetWhoseImageCannotBeHadChangesNothing(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.run("a")
		before := w.String()
		w.images.setGone(true)
		defer w.images.hold()()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, _, err := w.Reset(ctx, "a", true, nil); err == nil {
			t.Error("a reset without an image did not fail")
		}
		w.same(before)
		w.wantState("a", "running")
	})
}

func TestAResetAfterTheImageWasForgottenFetchesItByName(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.create("a")
		w.images.setGone(true)
		d, _, err := w.Reset(t.Context(), "a", false, nil)
		if err != nil || d.ImageDigest != nextDigest {
			t.Errorf("reset: %s, %v", d.ImageDigest, err)
		}
	})
}

func TestADeleteDoesNotWaitForTheImageOfAReset(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.create("a")
		w.images.setGone(true)
		defer w.images.hold()()
		reset := begin(func() (r result) {
			r.detail, r.out, r.err = w.Reset(context.Background(), "a", false, nil)
			return r
		})
		pending(t, "the reset that pulls", reset)
		if _, _, err := w.Delete(t.Context(), "a", false); err != nil {
			t.Error(err)
		}
		wantKind(t, (<-reset).err, banger.KindCancelled)
		w.wantState("a", "gone")
	})
}

func TestAFailureOrACrashAtAnyStepOfAResetCanBeRepaired(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.run("a")
		w.begun()
		if _, _, err := w.Reset(t.Context(), "a", true, nil); err != nil {
			t.Fatal(err)
		}
		names := w.begun()
		if !slices.Contains(names, "reset.image") || !slices.Contains(names, "reset.kill") || !slices.Contains(names, "reset.row") {
			t.Fatalf("steps of a reset: %q", names)
		}
		for _, step := range names {
			w.startAgain(step)
			w.failAt(step)
			_, _, _ = w.Reset(t.Context(), "a", true, nil) // some are made up for
			w.setFault(nil)
			w.startAgain(step)
			w.dieAt(step)
			r := <-begin(func() (r result) {
				_, r.out, r.err = w.Reset(context.Background(), "a", true, nil)
				return r
			})
			if !r.died {
				t.Errorf("%s: the daemon did not die: %+v", step, r)
			}
			w.setFault(nil)
			if err := w.restart(); err != nil {
				t.Error(err)
			}
			w.startAgain(step)
			if _, _, err := w.Reset(t.Context(), "a", true, nil); err != nil {
				t.Errorf("after %s: %v", step, err)
			}
			w.wantState("a", "stopped")
		}
	})
}

// startAgain starts a VM after something went wrong at a step.
func (w *world) startAgain(step string) {
	w.t.Helper()
	if _, _, err := w.Start(context.Background(), "a", lifecycle.StartOptions{}, nil); err != nil {
		w.t.Errorf("after %s: %v", step, err)
	}
}
