package lifecycle_test

import (
	"os"
	"testing"

	"banger.dev/banger"
)

func TestADamagedDiskStopsItsVMAloneAndResetMendsTheSystem(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.run("other")
		for disk, next := range map[string]string{"system": "banger vm reset a", "work": "banger vm delete a"} {
			w.create("a")
			files := w.layout.VM(w.row("a").ID)
			path := map[string]string{"system": files.SystemDisk("qcow2"), "work": files.WorkDisk("qcow2")}[disk]
			if err := os.Truncate(path, 1000); err != nil {
				t.Fatal(err)
			}
			r := <-w.beginStart(t.Context(), "a")
			wantKind(t, r.err, banger.KindConflict)
			wantWords(t, r.err.Error(), "VM a did not start", "the "+disk+" disk", path+" is damaged")
			wantWords(t, banger.NextOf(r.err), next)
			wantWords(t, w.row("a").LastError, path+" is damaged")
			w.wantState("a", "stopped")
			w.wantState("other", "running")
			if disk == "system" {
				if _, _, err := w.Reset(t.Context(), "a", false, nil); err != nil {
					t.Fatal(err)
				}
				if r := <-w.beginStart(t.Context(), "a"); r.err != nil {
					t.Error(r.err)
				}
				if _, _, err := w.Kill(t.Context(), "a"); err != nil {
					t.Error(err)
				}
			}
			w.delete("a")
		}
	})
}

func TestARowThatCannotBeReadIsBrokenAndTouchesNobodyElse(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		before := w.String()
		w.create("bad")
		w.run("good")
		w.damage = map[string]string{w.row("bad").ID: "spec: unexpected end of JSON input"}
		if err := w.restart(); err != nil {
			t.Error(err)
		}
		w.wantState("good", "running")
		w.wantState("bad", "broken")
		d, err := w.Show(t.Context(), "bad")
		if err != nil {
			t.Fatal(err)
		}
		wantWords(t, d.Reason, "its row in the database cannot be read", "spec:", "banger vm delete bad")
		r := <-w.beginStart(t.Context(), "bad")
		wantKind(t, r.err, banger.KindConflict)
		w.delete("bad")
		if _, _, err := w.Kill(t.Context(), "good"); err != nil {
			t.Error(err)
		}
		w.delete("good")
		w.same(before)
	})
}
