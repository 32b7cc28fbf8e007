package cli

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"banger.dev/banger"
)

const (
	eventSix   = `{"id":6,"time":"2026-01-02T03:04:05Z","type":"vm.stopped","vm":"web","reason":"panic","detail":{"error":"a\u001b[31m"},"request":"abcd1234"}` + "\n"
	eventSeven = `{"id":7,"time":"2026-01-02T03:04:06Z","type":"daemon.started"}` + "\n"
)

// The stream goes on behind the last event with the next daemon, also when there
// was none yet.
func TestEventsGoOnWithTheNextDaemon(t *testing.T) {
	w := newWorld(t).withDaemon()
	w.streams = []string{"", eventSix, `{"id":7,"time":"2026-01-02T03:04:0`, eventSeven}
	got := w.run("events", "--type", "vm.stopped,daemon.started", "--vm", "web")
	lines := strings.Split(got.stdout, "\n")
	if got.code != 0 || got.stderr != "" || len(lines) != 3 || !strings.HasPrefix(lines[0], "6 ") || !strings.HasPrefix(lines[1], "7 ") {
		t.Errorf("%+v", got)
	}
	if !strings.HasSuffix(lines[0], `vm.stopped web reason="panic" error="a\x1b[31m" request=abcd1234`) {
		t.Errorf("%q", lines[0])
	}
	const rest = "follow=true&type=vm.stopped&type=daemon.started&vm=web"
	want := []string{"events?" + rest, "events?after=5&" + rest, "events?after=6&" + rest, "events?after=6&" + rest}
	if !slices.Equal(w.asked, want) {
		t.Errorf("asked %q, want %q", w.asked, want)
	}
}

func TestEventsAsTheyAre(t *testing.T) {
	w := newWorld(t).withDaemon()
	w.streams = []string{eventSix + eventSeven}
	w.run("events", "--no-follow", "-o", "json").want(t, 0, canonical, "")
	w.streams = []string{""}
	w.run("events", "--after", "12", "--no-follow").want(t, 0, "", "")
	if last := w.asked[len(w.asked)-1]; last != "events?after=12" {
		t.Error(last)
	}
	for _, args := range [][]string{{"events", "--after", "x"}, {"events", "--after", "-1"}, {"events", "--since", "-5m"}, {"events", "x"}, {"vm", "logs", "-f", "-o", "json", "x"}, {"vm", "logs", "-n", "-3", "x"}, {"daemon", "logs", "-f", "-o", "json"}} {
		if got := w.run(args...); got.code != 2 || got.stdout != "" || strings.Count(strings.TrimSpace(got.stderr), "\n") != 0 {
			t.Errorf("%q: %+v", args, got)
		}
	}
}

// canonical is both as they are written again.
const canonical = `{"id":6,"time":"2026-01-02T03:04:05Z","type":"vm.stopped","vm":"web","request":"abcd1234","reason":"panic","detail":{"error":"a\u001b[31m"}}` + "\n" + eventSeven

func TestLogsOptionsReachTheDaemon(t *testing.T) {
	w := newWorld(t).withDaemon()
	w.add("web", banger.StateRunning)
	w.run("vm", "logs", "-f", "-n", "3", "--since", "2026-01-02T03:04:05.5+01:00", "web").want(t, 0, "2026-01-01 boot\x1b[31m\n", "")
	if want := "logs web?follow=true&places=true&since=2026-01-02T02%3A04%3A05.5Z&tail=3"; w.asked[len(w.asked)-1] != want {
		t.Errorf("asked %q, want %s", w.asked, want)
	}
	before := time.Now().Add(-time.Hour)
	var at time.Time
	if err := (&sinceValue{&at}).Set("1h"); err != nil || at.Before(before) || at.After(time.Now().Add(-59*time.Minute)) {
		t.Errorf("%s %v", at, err)
	}
}

// A console goes on behind the last line that came whole, with the next daemon,
// and by the VM's id: its name may be another's by then.
func TestLogsGoOnWithTheNextDaemon(t *testing.T) {
	w := newWorld(t).withDaemon()
	id := w.add("web", banger.StateRunning).ID
	w.consoles = []string{"", "log+16 one\nlog+24 tw", "log+24 two\nlog+32 thr", "log+40 three\n"}
	w.run("vm", "logs", "-f", "-n", "0", "web").want(t, 0, "one\ntwo\nthree\n", "")
	const rest = "&follow=true&places=true"
	want := []string{"logs web?follow=true&places=true&tail=0", "logs " + id + "?after=log%2B8" + rest, "logs " + id + "?after=log%2B16" + rest, "logs " + id + "?after=log%2B24" + rest}
	if !slices.Equal(w.asked, want) {
		t.Errorf("asked %q, want %q", w.asked, want)
	}
}

// A VM that ended and was deleted while no daemon answered has said all it will.
func TestLogsOfAVMThatIsGone(t *testing.T) {
	w := newWorld(t).withDaemon()
	w.add("web", banger.StateRunning)
	w.consoles = []string{"log+16 one\n", "deleted"}
	w.run("vm", "logs", "-f", "web").want(t, 0, "one\n", "banger: web was deleted meanwhile, and the rest of its log with it\n")
}

func TestLogsOfTheVMM(t *testing.T) {
	w := newWorld(t).withDaemon()
	w.add("web", banger.StateStopped)
	w.run("vm", "logs", "--vmm", "-o", "json", "web").want(t, 0, "{\n  \"vmm\": \"2026-01-01 boot\\u001b[31m\\n\"\n}\n", "")
	if last := w.asked[len(w.asked)-1]; last != "logs web?places=true&source=vmm" {
		t.Error(last)
	}
	w.run("vm", "logs", "--serial", "web").want(t, 0, "2026-01-01 boot\x1b[31m\n", "")
}

func TestLogsThatAreCutOff(t *testing.T) {
	w := newWorld(t).withDaemon()
	w.add("web", banger.StateRunning)
	w.consoles = []string{"log+16 one\n", ""}
	got := w.run("vm", "logs", "web")
	if got.code != 1 || got.stdout != "one\n" || !strings.Contains(got.stderr, "the daemon ended while the log of web was printed") || !strings.HasSuffix(got.stderr, "; try: banger vm logs web\n") {
		t.Errorf("%+v", got)
	}
}

// A daemon of another interface is said to be one, and not waited for.
func TestEventsBesideAnotherInterface(t *testing.T) {
	w := newWorld(t).withDaemon()
	w.streams = []string{eventSix, "skew"}
	got := w.run("events")
	if got.code != 1 || !strings.HasPrefix(got.stdout, "6 ") || !strings.Contains(got.stderr, "speaks version 99") {
		t.Errorf("%+v", got)
	}
}

// Who follows something that says nothing ends with the reader of what he says.
func TestFollowersEndWithTheirReader(t *testing.T) {
	w := newWorld(t).withDaemon()
	if err := os.MkdirAll(filepath.Dir(w.layout.DaemonLog()), 0o700); err != nil {
		t.Fatal(err)
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := reader.Close(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = writer.Close() }()
	var stderr strings.Builder
	if code := Run(t.Context(), w.process(strings.NewReader(""), writer, &stderr), []string{"daemon", "logs", "-f"}); code != exitSIGPIPE || stderr.String() != "" {
		t.Errorf("code %d, %q", code, &stderr)
	}
}

// An internal error names its request, for whoever reads the daemon's log.
func TestErrorsNameTheirRequest(t *testing.T) {
	w := newWorld(t).withDaemon()
	w.add("web", banger.StateRunning)
	w.fail["stop web"] = &banger.Error{Kind: banger.KindInternal, Message: "a defect", Request: "abcd1234"}
	w.run("vm", "stop", "web").want(t, 1, "", "banger: a defect (request abcd1234)\n")
	w.run("vm", "stop", "-o", "json", "web").want(t, 1, "[]\n", `{"error":{"kind":"internal","message":"a defect","next":"","request":"abcd1234"}}`+"\n")
	w.fail["stop web"] = &banger.Error{Kind: banger.KindConflict, Message: "it is busy", Request: "abcd1234"}
	w.run("vm", "stop", "web").want(t, 4, "", "banger: it is busy\n")
}

func TestDaemonLogs(t *testing.T) {
	w := newWorld(t)
	if got := w.run("daemon", "logs"); got.code != 3 {
		t.Errorf("%+v", got)
	}
	if err := os.MkdirAll(filepath.Dir(w.layout.DaemonLog()), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(w.layout.DaemonLog(), []byte("one\ntwo\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.run("daemon", "logs").want(t, 0, "one\ntwo\n", "")
}
