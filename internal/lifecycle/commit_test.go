package lifecycle_test

import (
	"testing"

	"banger.dev/banger"
)

func TestCommitNamesAnImageOfAStoppedVM(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.create("a")
		before := w.String()
		img, err := w.Commit(t.Context(), "a", "mine", nil)
		if err != nil || img.Name != "mine" || img.Digest != imageDigest+" of a" || w.images.names["mine"] != img.Digest {
			t.Errorf("%+v, %v; named %v", img, err, w.images.names)
		}
		w.same(before)
		_, err = w.Commit(t.Context(), "a", "not a name", nil)
		wantKind(t, err, banger.KindInvalid)
		_, err = w.Commit(t.Context(), "nosuch", "not a name", nil)
		wantKind(t, err, banger.KindNotFound)
	})
}

func TestCommitOfWhatIsAliveSaysWhatToDo(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		for _, state := range []string{"running", "paused"} {
			undo := w.states()[state](state)
			_, err := w.Commit(t.Context(), state, "mine", nil)
			wantKind(t, err, banger.KindConflict)
			if next := banger.NextOf(err); next != "banger vm stop "+state {
				t.Errorf("%s: %v, next %q", state, err, next)
			}
			undo()
		}
		if len(w.images.names) != 0 {
			t.Errorf("named %v", w.images.names)
		}
	})
}
