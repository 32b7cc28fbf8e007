package lifecycle_test

import (
	"testing"

	"banger.dev/banger"
)

// The account of what VMs need is made anew by a start of the daemon, for it may
// be of a version that kept none.
func TestWhatAVMNeedsIsHeldUntilItIsDeleted(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		empty := w.String()
		w.run("a")
		wantWords(t, w.String(), "hold a "+imageDigest+" sha256:0e\n")
		before := w.String()
		clear(w.holds.vms)
		if err := w.restart(); err != nil {
			t.Fatal(err)
		}
		w.same(before)
		if _, _, err := w.Kill(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		w.delete("a")
		w.same(empty)
	})
}

func TestAVMWhoseKernelIsGoneDoesNotStartAndOthersDo(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.create("a")
		w.run("b")
		w.holds.gone = banger.Errorf(banger.KindNotFound, "the kernel is gone from the cache")
		if r := <-w.beginStart(t.Context(), "a"); banger.KindOf(r.err) != banger.KindNotFound {
			t.Errorf("%+v", r)
		} else {
			wantWords(t, r.err.Error(), "VM a did not start", "the kernel is gone from the cache")
		}
		if err := w.restart(); err == nil {
			t.Error("the start of the daemon is silent about it")
		}
		w.wantState("a", "stopped")
		w.wantState("b", "running")
	})
}
