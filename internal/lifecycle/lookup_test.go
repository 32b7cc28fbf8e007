package lifecycle_test

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"banger.dev/banger"
	"banger.dev/banger/internal/lifecycle"
)

// insert adds the row of a VM with an id of our choice.
func (w *world) insert(id, name string, user int) {
	w.t.Helper()
	rec := banger.Record{ID: id, Name: name, Owner: user, Spec: spec().WithDefaults(), Intent: banger.IntentStopped, ImageDigest: imageDigest}
	if err := w.db.Insert(context.Background(), rec); err != nil {
		w.t.Fatal(err)
	}
}

func TestAVMIsFoundByNameIDOrTheBeginningOfItsID(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.insert("abcd111111111111", "one", owner)
		w.insert("abcd222222222222", "two", owner)
		w.insert("0123456789abcdef", "three", owner)
		w.insert("fedcba9876543210", "0123456789abcdef", owner) // a name like another's id
		w.insert("7777777777777777", "theirs", owner+1)
		for ref, want := range map[string]string{
			"one": "one", "abcd111111111111": "one", "abcd1": "one", "abcd2222": "two", "0123": "three", "fedc": "0123456789abcdef",
			"0123456789abcdef": "0123456789abcdef",
		} {
			d, err := w.Show(t.Context(), ref)
			if err != nil || d.Name != want {
				t.Errorf("show %s: %s, %v, want %s", ref, d.Name, err, want)
			}
		}
		for _, ref := range []string{"", "nope", "abc", "fed", "abcd1111111111111", "theirs", "7777", "7777777777777777", "ABCD1"} {
			_, err := w.Show(t.Context(), ref)
			wantKind(t, err, banger.KindNotFound)
			if banger.NextOf(err) != "banger vm list" {
				t.Errorf("show %q: next %q", ref, banger.NextOf(err))
			}
		}
		_, err := w.Show(t.Context(), "abcd")
		wantKind(t, err, banger.KindConflict)
		wantWords(t, err.Error(), "one (abcd111111111111)", "two (abcd222222222222)")
	})
}

func TestAVerbActsOnTheVMItNamesAlsoIfAnotherIsNamedLikeItsID(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.create("a")
		w.create(a.ID)
		if _, _, err := w.Start(t.Context(), "a", lifecycle.StartOptions{}, nil); err != nil {
			t.Fatal(err)
		}
		w.wantState("a", "running")
		if m := w.host.named(a.ID); m != nil {
			t.Error("the other one was started")
		}
		w.machine("a").end("poweroff", "the guest powered off")
		settle()
		if r := w.row("a"); r.LastExit == nil {
			t.Error("its end was not recorded")
		}
	})
}

func TestAnUnknownVMIsNotFoundByEveryVerb(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.create("other")
		before := w.String()
		for name, verb := range w.verbs() {
			if name == "create" {
				continue
			}
			if got := verb("nope"); got != "not_found" {
				t.Errorf("%s of an unknown VM: %s", name, got)
			}
		}
		_, err := w.Console(t.Context(), "nope", lifecycle.ConsoleOptions{Tail: -1})
		wantKind(t, err, banger.KindNotFound)
		w.same(before)
	})
}

func TestTheConsoleIsBothFilesTheOlderFirst(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		files := w.layout.VM(w.create("a").ID)
		read := func() string {
			t.Helper()
			r, err := w.Console(t.Context(), "a", lifecycle.ConsoleOptions{Tail: -1})
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(r)
			if err := errors.Join(err, r.Close()); err != nil {
				t.Fatal(err)
			}
			return string(b)
		}
		if got := read(); got != "" {
			t.Errorf("before the first boot: %q", got)
		}
		for n, text := range map[int]string{0: "newer\n", 1: "older\n"} {
			if err := os.WriteFile(files.Console(n), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got := read(); got != "older\nnewer\n" {
			t.Errorf("console: %q", got)
		}
	})
}

func TestTheListIsOfOneOwnerByAgeAndNeverNull(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		list, err := w.List(t.Context())
		if err != nil || list == nil || len(list) != 0 {
			t.Errorf("list of nothing: %v, %v", list, err)
		}
		w.create("b")
		w.create("a")
		w.insert("7777777777777777", "theirs", owner+1)
		list, err = w.List(t.Context())
		var names []string
		for _, vm := range list {
			names = append(names, vm.Name)
			if vm.Labels == nil {
				t.Errorf("labels of %s are null", vm.Name)
			}
		}
		if err != nil || strings.Join(names, " ") != "b a" {
			t.Errorf("list: %q, %v", names, err)
		}
	})
}
