package lifecycle_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/lifecycle"
	"banger.dev/banger/internal/monitor"
	"banger.dev/banger/internal/request"
	"banger.dev/banger/internal/tail"
)

// told are the events since the last call, as "type name reason".
func (w *world) told(after *int64) []string {
	w.t.Helper()
	list, err := w.db.Events(context.Background(), owner, *after, banger.EventFilter{}, 1000)
	if err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, e := range list {
		if e.ID <= *after || e.VMID == "" || e.Time.IsZero() {
			w.t.Errorf("%+v", e)
		}
		*after = e.ID
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s %s", e.Type, e.VM, e.Reason)))
	}
	return out
}

func (w *world) wantTold(after *int64, want ...string) {
	w.t.Helper()
	if got := w.told(after); strings.Join(got, "; ") != strings.Join(want, "; ") {
		w.t.Errorf("told %q, want %q", got, want)
	}
}

func TestEventsOfALife(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var after int64
		w.run("a")
		w.wantTold(&after, "vm.created a", "vm.started a")
		w.machine("a").change(func(s *monitor.Status) { s.Paused, s.Reason = true, "No space left on device" })
		settle()
		w.machine("a").change(func(s *monitor.Status) { s.Paused, s.Reason = false, "" })
		settle()
		w.wantTold(&after, "vm.paused a No space left on device", "vm.resumed a")
		ctx := request.With(t.Context(), "abcd1234")
		if _, _, err := w.Stop(ctx, "a", 0); err != nil {
			t.Fatal(err)
		}
		list, err := w.db.Events(t.Context(), owner, after, banger.EventFilter{}, 10)
		if err != nil || len(list) != 1 || list[0].Request != "abcd1234" {
			t.Errorf("%+v %v", list, err)
		}
		w.wantTold(&after, "vm.stopped a poweroff")
		for range 2 { // the second time there is nothing to tell
			_, _, _ = w.Stop(ctx, "a", 0)
			_, _, _ = w.Delete(ctx, "a", false)
		}
		w.wantTold(&after, "vm.deleted a")
	})
}

func TestEventsOfFailures(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var after int64
		w.failAt("create.disks")
		if _, err := w.Create(t.Context(), "a", spec(), nil, nil); err == nil {
			t.Fatal("the fault had no effect")
		}
		w.wantTold(&after) // what nobody was told of is not told to be gone
		w.failAt("start.monitor")
		if _, err := w.Create(t.Context(), "a", spec(), &lifecycle.StartOptions{}, nil); err == nil {
			t.Fatal("the fault had no effect")
		}
		got := w.told(&after)
		if len(got) != 2 || got[0] != "vm.created a" || !strings.HasPrefix(got[1], "vm.start-failed a VM a did not start") {
			t.Errorf("%q", got)
		}
	})
}

// A daemon that dies tells less; the next one makes up for it, and nothing is
// told twice.
func TestEventsOverTheDaemonsDeath(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var after int64
		d := w.run("a")
		w.run("b")
		w.told(&after)
		w.Close()
		w.machine("a").end(monitor.ReasonPoweroff, "the guest powered off")
		settle()
		w.boot()
		for range 2 {
			if err := w.Reconcile(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		w.wantTold(&after, "vm.stopped a poweroff")

		// Ready, and dead before that was told.
		if _, _, err := w.Start(t.Context(), "a", lifecycle.StartOptions{}, nil); err != nil {
			t.Fatal(err)
		}
		w.told(&after)
		if err := w.db.AppendEvent(t.Context(), owner, banger.Event{Type: banger.EventVMStopped, VM: "a", VMID: d.ID}); err != nil {
			t.Fatal(err)
		}
		w.told(&after)
		for range 2 {
			if err := w.restart(); err != nil {
				t.Fatal(err)
			}
		}
		w.wantTold(&after, "vm.started a")
	})
}

// After a suspend every guest that runs gets its clock set, at once, and one
// that does not answer holds up no other.
func TestSetClocks(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var after int64
		for _, name := range []string{"a", "b", "mute"} {
			w.run(name)
			m := w.machine(name)
			m.mu.Lock()
			m.drift = -8 * time.Hour
			m.mute = name == "mute"
			m.mu.Unlock()
		}
		w.create("stopped")
		w.told(&after)
		if d, err := w.Show(t.Context(), "a"); err != nil || d.ClockDriftMS == nil || *d.ClockDriftMS != -8*3600*1000 {
			t.Errorf("%+v %v", d.ClockDriftMS, err)
		}
		if d, err := w.Show(t.Context(), "mute"); err != nil || d.ClockDriftMS != nil {
			t.Errorf("%v %v", d.ClockDriftMS, err)
		}
		w.SetClocks(t.Context())
		if got := w.told(&after); len(got) != 2 || !strings.HasPrefix(got[0], "clock.set") {
			t.Errorf("%q", got)
		}
		if d, err := w.Show(t.Context(), "a"); err != nil || *d.ClockDriftMS != 0 {
			t.Errorf("%v %v", d.ClockDriftMS, err)
		}
		_, err := w.SetClock(t.Context(), "stopped")
		wantKind(t, err, banger.KindConflict)
		_, err = w.SetClock(t.Context(), "nope")
		wantKind(t, err, banger.KindNotFound)
		_, err = w.SetClock(t.Context(), "mute")
		wantKind(t, err, banger.KindUnavailable)
		m := w.machine("mute")
		m.mu.Lock()
		m.mute = false
		m.mu.Unlock()
	})
}

func TestFollowTheConsole(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		files := w.layout.VM(w.run("a").ID)
		add := func(path, text string) {
			t.Helper()
			f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = f.WriteString(text)
			_ = f.Close()
		}
		console, err := w.Console(t.Context(), "a", lifecycle.ConsoleOptions{Follow: true, Tail: 0})
		if err != nil {
			t.Fatal(err)
		}
		got := make(chan string)
		go func() {
			b, err := io.ReadAll(console)
			got <- fmt.Sprint(string(b), err)
		}()
		settle()
		add(files.Console(0), "one\n")
		settle()
		add(files.Console(0), "two\n")
		if err := os.Rename(files.Console(0), files.Console(1)); err != nil {
			t.Fatal(err)
		}
		add(files.Console(0), "three\n")
		settle()
		add(files.Console(0), "four\n")
		if _, _, err := w.Kill(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		if text := <-got; text != "one\ntwo\nthree\nfour\n<nil>" {
			t.Errorf("%q", text)
		}
		_ = console.Close()
		synctest.Wait()
	})
}

func TestPartsOfTheConsole(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		files := w.layout.VM(w.create("a").ID)
		older := "2026-01-01T10:00:00.000Z one\n2026-01-01T10:00:01.000Z two\n"
		newer := "2026-01-01T10:00:02.000Z three\n2026-01-01T10:00:03.000Z four\n"
		if os.WriteFile(files.Console(1), []byte(older), 0o600) != nil || os.WriteFile(files.Console(0), []byte(newer), 0o600) != nil {
			t.Fatal("no console")
		}
		since := time.Date(2026, 1, 1, 10, 0, 1, 0, time.UTC)
		for _, c := range []struct {
			opts lifecycle.ConsoleOptions
			want string
		}{
			{lifecycle.ConsoleOptions{Tail: -1}, "one two three four"},
			{lifecycle.ConsoleOptions{Tail: 3}, "two three four"},
			{lifecycle.ConsoleOptions{Tail: 0}, ""},
			{lifecycle.ConsoleOptions{Tail: 99}, "one two three four"},
			{lifecycle.ConsoleOptions{Tail: -1, Since: since}, "two three four"},
			{lifecycle.ConsoleOptions{Tail: 1, Since: since}, "four"},
			{lifecycle.ConsoleOptions{Tail: 4, Since: since}, "two three four"},
			{lifecycle.ConsoleOptions{Tail: -1, Follow: true}, "one two three four"},
		} {
			r, err := w.Console(t.Context(), "a", c.opts)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(r)
			_ = r.Close()
			var words []string
			for line := range strings.Lines(string(b)) {
				words = append(words, strings.Fields(line)[1])
			}
			if got := strings.Join(words, " "); got != c.want || err != nil {
				t.Errorf("%+v: %q %v, want %q", c.opts, got, err, c.want)
			}
		}
	})
}

// Whoever goes on behind the last line he got misses none and gets none twice,
// be it at another daemon and after a rotation.
func TestTheConsoleGoesOnBehindAPlace(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		files := w.layout.VM(w.create("a").ID)
		put := func(n int, text string) {
			t.Helper()
			if err := os.WriteFile(files.Console(n), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		read := func(opts lifecycle.ConsoleOptions) (lines []string, c *lifecycle.Console) {
			t.Helper()
			c, err := w.Console(t.Context(), "a", opts)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(c)
			if err := errors.Join(err, c.Close()); err != nil {
				t.Fatal(err)
			}
			return strings.SplitAfter(string(b), "\n"), c
		}
		put(0, "one\ntwo\n")
		lines, c := read(lifecycle.ConsoleOptions{Tail: -1, Places: true})
		place, text, _ := strings.Cut(lines[0], " ")
		if text != "one\n" || c.VM != w.row("a").ID || c.Lost {
			t.Fatalf("%q %+v", lines, c)
		}
		after, err := tail.ParsePlace(place)
		if err != nil {
			t.Fatal(err)
		}
		_, c = read(lifecycle.ConsoleOptions{Tail: 0})
		w.Close()
		w.boot()
		put(1, "one\ntwo\n")
		put(0, "three\n")
		if lines, c := read(lifecycle.ConsoleOptions{Tail: -1, After: after}); strings.Join(lines, "") != "two\nthree\n" || c.Lost || c.Begin != after {
			t.Errorf("%q %+v", lines, c)
		}
		if lines, _ := read(lifecycle.ConsoleOptions{Tail: 1, After: after}); strings.Join(lines, "") != "two\nthree\n" {
			t.Errorf("of what is behind a place all is wanted: %q", lines)
		}
		if lines, _ := read(lifecycle.ConsoleOptions{Tail: -1, After: c.Begin}); strings.Join(lines, "") != "three\n" {
			t.Errorf("%q behind %v", lines, c.Begin)
		}
		put(1, "three\n")
		put(0, "four\n")
		if lines, c := read(lifecycle.ConsoleOptions{Tail: -1, After: after}); strings.Join(lines, "") != "three\nfour\n" || !c.Lost {
			t.Errorf("%q %+v", lines, c)
		}
		if err := os.WriteFile(files.VMMLog(), []byte("qemu: no\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if lines, _ := read(lifecycle.ConsoleOptions{Source: lifecycle.SourceVMM, Tail: -1}); strings.Join(lines, "") != "qemu: no\n" {
			t.Errorf("%q", lines)
		}
		_, err = w.Console(t.Context(), "a", lifecycle.ConsoleOptions{Source: "../lock"})
		wantKind(t, err, banger.KindInvalid)
	})
}
