package lifecycle_test

import (
	"context"
	"errors"
	"testing"

	"banger.dev/banger"
	"banger.dev/banger/internal/lifecycle"
)

// beginDelete deletes in the background, by a daemon that may die in it.
func (w *world) beginDelete(name string) <-chan result {
	return begin(func() (r result) {
		r.vm, r.out, r.err = w.Delete(context.Background(), name, true)
		return r
	})
}

// Whenever the daemon dies in a delete, the VM is whole afterwards or gone.
func TestADeleteThatWasCutOffIsFinishedByTheNextDaemon(t *testing.T) {
	for step, left := range map[string]string{
		"teardown.processes": "running", "teardown.sockets": "stopped", "teardown.handles": "stopped", "delete.mark": "stopped",
		"delete.files": "gone", "delete.row": "gone",
	} {
		t.Run(step, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				empty := w.String()
				w.run("a")
				w.dieAt(step)
				if r := <-w.beginDelete("a"); !r.died {
					t.Fatalf("the delete: %+v", r)
				}
				w.setFault(nil)
				if err := w.restart(); err != nil {
					t.Fatal(err)
				}
				w.wantState("a", left)
				if left != "gone" {
					if _, _, err := w.Start(t.Context(), "a", lifecycle.StartOptions{}, nil); err != nil {
						t.Errorf("it is not whole: %v", err)
					}
					if r := <-w.beginDelete("a"); r.err != nil {
						t.Error(r.err)
					}
				}
				w.same(empty)
			})
		})
	}
}

// A VM that cannot be removed says that it is being deleted, and is removed by
// whoever looks at it when nothing stands in the way any more.
func TestADeleteThatFailedIsFinishedWhenItCanBe(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		empty := w.String()
		undo := w.states()["half deleted"]("a")
		d, err := w.Show(t.Context(), "a")
		if err != nil || d.State != banger.StateBroken {
			t.Fatalf("%+v, %v", d, err)
		}
		wantWords(t, d.Reason, "it is being deleted", "could not be removed", "banger vm delete a")
		_, _, stop := w.Stop(t.Context(), "a", 0)
		_, logs := w.Console(t.Context(), "a", lifecycle.ConsoleOptions{})
		_, _, wait := w.Await(t.Context(), "a", lifecycle.UntilReady)
		_, _, ports := w.AddPorts(t.Context(), "a", nil)
		for verb, err := range map[string]error{"stop": stop, "logs": logs, "wait": wait, "port add": ports} {
			if banger.KindOf(err) != banger.KindConflict || banger.NextOf(err) != "banger vm delete a" {
				t.Errorf("%s: %v, next %q", verb, err, banger.NextOf(err))
			}
		}
		if err := w.restart(); !errors.Is(err, errFault) {
			t.Errorf("the next daemon: %v", err)
		}
		w.wantState("a", "broken")
		undo()
		w.wantState("a", "gone")
		w.same(empty)
	})
}

// A create whose own cleanup failed goes the same way.
func TestACreateThatCouldNotBeUndoneIsUndoneWhenItCanBe(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		empty := w.String()
		w.setFault(func(step string) error {
			if step == "create.row" || step == "delete.files" {
				return errFault
			}
			return nil
		})
		if _, err := w.Create(t.Context(), "a", spec(), nil, nil); !errors.Is(err, errFault) {
			t.Fatal(err)
		}
		w.wantState("a", "broken")
		w.setFault(nil)
		w.wantState("a", "gone")
		w.same(empty)
	})
}

func TestADeleteOfARowThatCannotBeReadIsFinishedToo(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		empty := w.String()
		w.create("a")
		w.damage = map[string]string{w.row("a").ID: "spec: unexpected end of JSON input"}
		w.dieAt("delete.files")
		if r := <-w.beginDelete("a"); !r.died {
			t.Fatalf("the delete: %+v", r)
		}
		w.setFault(nil)
		if err := w.restart(); err != nil {
			t.Fatal(err)
		}
		w.wantState("a", "gone")
		w.same(empty)
	})
}

// Two at once: the one that comes second finds nothing left to do.
func TestWhoWaitsForADeleteFindsTheVMGone(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.create("a")
		release := make(chan struct{})
		w.setFault(func(step string) error {
			if step == "delete.row" {
				<-release
			}
			return nil
		})
		first := w.beginDelete("a")
		started := w.beginStart(t.Context(), "a")
		pending(t, "the delete", first)
		pending(t, "the start", started)
		w.wantState("a", "gone")
		close(release)
		if r := <-first; r.err != nil {
			t.Errorf("%+v", r)
		}
		if r := <-started; banger.KindOf(r.err) != banger.KindNotFound {
			t.Errorf("%+v", r)
		}
	})
}
