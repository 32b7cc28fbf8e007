package cli

import (
	"bytes"
	"context"
	"io"
	"os"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"banger.dev/banger"
	"banger.dev/banger/internal/agent/wire"
)

const otter = "00000000abcdef00" // the id of the first VM of a world

func TestRunRemove(t *testing.T) {
	w := newWorld(t).withDaemon()
	w.command = func(c *guestCall) wire.Exit {
		_, _ = io.WriteString(c.stdout, "out\n")
		_, _ = io.WriteString(c.stderr, "err\n")
		return exitWith(7)
	}
	w.run("run", "--rm", "--", "sh", "-c", "echo out; echo err >&2; exit 7").want(t, 7, "out\n", "err\n")
	w.wantQuestions("create", "lease", "exec [sh -c echo out; echo err >&2; exit 7]", "delete "+otter+"?force=true", "release")
	if req := w.created(); !req.Spec.Ephemeral || req.Spec.Init != banger.InitNone || req.Start == nil || !req.Start.Leased || !req.Leash || req.Name != "" {
		t.Errorf("created %+v", req)
	}
	if len(w.vms) != 0 {
		t.Errorf("left %+v", w.vms)
	}
}

func TestRunKeeps(t *testing.T) {
	w := newWorld(t).withDaemon()
	w.runWith("abc", "vm", "run", "--name", "web", "--timeout", "90s", "--", "cat").want(t, 0, "abc",
		"banger: web is running, and stays so; end it with: banger vm delete --force web\n")
	w.wantQuestions("create", "exec [cat]")
	if req := w.created(); req.Spec.Ephemeral || req.Spec.Init != banger.InitAuto || req.Name != "web" || req.Start.Leased || req.Start.TimeoutMS != 90000 {
		t.Errorf("created %+v", req)
	}
	w.runWith("abc", "run", "-q", "-i", "--", "cat").want(t, 0, "abc", "")
	w.run("run", "-d").want(t, 0, "brave-otter\n", "")
	if got := w.run("run", "-d", "--name", "x", "-o", "json"); got.code != 0 || !strings.Contains(got.stdout, `"name": "x"`) || got.stderr != "" {
		t.Errorf("%+v", got)
	}
}

func TestRunInit(t *testing.T) {
	for args, want := range map[string]banger.InitMode{
		"run --rm -- true":             banger.InitNone,
		"run --rm --init auto -- true": banger.InitAuto,
		"run --rm":                     banger.InitAuto,
		"run -- true":                  banger.InitAuto,
		"run --init=none":              banger.InitNone,
	} {
		w := newWorld(t).withDaemon()
		w.run(strings.Fields(args)...)
		if got := w.created().Spec.Init; got != want {
			t.Errorf("%s: init %s, want %s", args, got, want)
		}
	}
}

func TestRunCommand(t *testing.T) {
	shell := []wire.Text{"/bin/sh", "-c", shellScript}
	for _, test := range []struct {
		entrypoint, cmd []string
		args            []string
		want            []wire.Text
	}{
		{nil, nil, []string{"--", "ls", "-l"}, []wire.Text{"ls", "-l"}},
		{nil, nil, nil, shell},
		{nil, nil, []string{"--"}, shell},
		{[]string{"/entry"}, []string{"serve"}, nil, []wire.Text{"/entry", "serve"}},
		{[]string{"/entry"}, []string{"serve"}, []string{"--", "check"}, []wire.Text{"/entry", "check"}},
		{nil, []string{"serve"}, nil, []wire.Text{"serve"}},
		{nil, []string{"serve"}, []string{"--", "--", "a\xffb"}, []wire.Text{"--", "a\xffb"}},
	} {
		w := newWorld(t).withDaemon()
		w.entrypoint, w.cmd = test.entrypoint, test.cmd
		var got []wire.Text
		w.command = func(c *guestCall) wire.Exit {
			got = c.Argv
			return exitWith(0)
		}
		w.run(append([]string{"run", "--rm"}, test.args...)...).want(t, 0, "", "")
		if !reflect.DeepEqual(got, test.want) {
			t.Errorf("%v %v: ran %q, want %q", test, test.args, got, test.want)
		}
	}
}

// TestRunFails is about what is left when something other than the command goes wrong.
func TestRunFails(t *testing.T) {
	t.Run("create", func(t *testing.T) {
		w := newWorld(t).withDaemon()
		w.fail["create"] = banger.Errorf(banger.KindNotFound, "there is no image nosuch")
		w.run("run", "--rm", "--image", "nosuch", "--", "true").want(t, 125, "", "banger: there is no image nosuch\n")
		w.wantQuestions("create")
	})
	t.Run("no lease", func(t *testing.T) {
		w := newWorld(t).withDaemon()
		w.noMonitor = true
		got := w.run("run", "--rm", "--", "true")
		if got.code != 125 || !strings.Contains(got.stderr, "monitor of brave-otter") {
			t.Errorf("%+v", got)
		}
		w.wantQuestions("create", "delete "+otter+"?force=true")
	})
	t.Run("not there", func(t *testing.T) {
		w := newWorld(t).withDaemon()
		w.command = func(*guestCall) wire.Exit {
			return wire.Exit{Error: &wire.Error{Code: 127, Message: "nosuch: not found"}}
		}
		w.run("run", "--rm", "--", "nosuch").want(t, 127, "", "banger: nosuch: not found\n")
		w.wantQuestions("create", "lease", "exec [nosuch]", "delete "+otter+"?force=true", "release")
	})
	t.Run("the VM ends", func(t *testing.T) {
		w := newWorld(t).withDaemon()
		w.command = func(c *guestCall) wire.Exit {
			_ = c.conn.Close()
			return exitWith(0)
		}
		got := w.run("run", "--rm", "--", "poweroff")
		if got.code != 125 || strings.Count(got.stderr, "\n") != 1 || !strings.Contains(got.stderr, "brave-otter") {
			t.Errorf("%+v", got)
		}
		w.wantQuestions("create", "lease", "exec [poweroff]", "delete "+otter+"?force=true", "release")
	})
	t.Run("gone before it is deleted", func(t *testing.T) {
		w := newWorld(t).withDaemon()
		w.command = func(*guestCall) wire.Exit {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.vms = nil
			return exitWith(3)
		}
		w.run("run", "--rm", "--", "x").want(t, 3, "", "")
	})
	t.Run("not deleted", func(t *testing.T) {
		w := newWorld(t).withDaemon()
		w.fail["delete "+otter] = banger.Errorf(banger.KindInternal, "no way")
		w.command = func(*guestCall) wire.Exit { return exitWith(3) }
		w.run("run", "--rm", "--", "x").want(t, 3, "", "banger: brave-otter is not deleted: no way; try: banger vm delete --force brave-otter\n")
	})
	t.Run("daemon killed meanwhile", func(t *testing.T) {
		w := newWorld(t).withDaemon()
		w.command = func(*guestCall) wire.Exit {
			w.stopDaemon()
			_ = os.Remove(w.layout.DaemonSocket())
			w.withDaemon() // as the client's autostart would
			return exitWith(3)
		}
		w.run("run", "--rm", "--", "x").want(t, 3, "", "")
		w.wantQuestions("create", "lease", "exec [x]", "delete "+otter+"?force=true", "release")
	})
}

func TestRunProgressOfACachedImage(t *testing.T) {
	w := newWorld(t).withDaemon()
	w.progress = []banger.Progress{{Stage: "image", Message: "debian"}, {Stage: "kernel"}, {Stage: "boot", Message: "waiting"}}
	w.run("run", "--rm", "--", "true").want(t, 0, "", "")
}

func TestExec(t *testing.T) {
	w := newWorld(t).withDaemon()
	w.add("web", banger.StateRunning)
	w.runWith("abc", "exec", "web", "--", "cat").want(t, 0, "abc", "")
	w.runWith("abc", "exec", "-i", "web", "cat", "-n", "--rm", "-o", "json").want(t, 0, "abc", "")
	w.wantQuestions("show web", "exec [cat]", "show web", "exec [cat -n --rm -o json]")

	var got wire.Request
	w.command = func(c *guestCall) wire.Exit {
		got = c.Request
		return exitWith(0)
	}
	w.run("vm", "exec", "-w", "/srv", "-u", "www", "-e", "A=1", "-e", "FROM_HOST", "-e", "A=2", "web", "--", "--", "x\xff").want(t, 0, "", "")
	want := wire.Request{Argv: []wire.Text{"--", "x\xff"}, Env: []wire.Text{"A=2", "FROM_HOST=yes"}, Cwd: "/srv", User: "www"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("asked %+v, want %+v", got, want)
	}
	w.run("exec", "-t", "web", "sh").want(t, 0, "", "")
	if !got.TTY || !reflect.DeepEqual(got.Env, []wire.Text{"TERM=dumb"}) {
		t.Errorf("asked %+v", got)
	}
	w.run("exec", "-t", "-e", "TERM=vt100", "web", "sh").want(t, 0, "", "")
	if !reflect.DeepEqual(got.Env, []wire.Text{"TERM=vt100"}) {
		t.Errorf("asked %+v", got)
	}
}

func TestExecExitCodes(t *testing.T) {
	w := newWorld(t).withDaemon()
	w.add("web", banger.StateRunning)
	for _, test := range []struct {
		exit   wire.Exit
		code   int
		stderr string
	}{
		{exitWith(0), 0, ""},
		{exitWith(1), 1, ""},
		{exitWith(255), 255, ""},
		{wire.Exit{Signal: 9}, 137, ""},
		{wire.Exit{Signal: 64}, 192, ""},
		{wire.Exit{Error: &wire.Error{Code: 126, Message: "x: permission denied"}}, 126, "banger: x: permission denied\n"},
		{wire.Exit{Error: &wire.Error{Code: 127, Message: "x: not found"}}, 127, "banger: x: not found\n"},
		{wire.Exit{Error: &wire.Error{Code: 125, Message: "no user \x1b[m"}}, 125, "banger: no user \\x1b[m\n"},
		{wire.Exit{Error: &wire.Error{Code: 0, Message: "liar"}}, 125, "banger: liar\n"},
		{wire.Exit{Error: &wire.Error{Code: 127, Message: "x\nbanger: all is well"}}, 127, "banger: x\\x0abanger: all is well\n"},
		{exitWith(256), 125, "banger: the guest's agent does not say how the command ended\n"},
		{exitWith(-1), 125, "banger: the guest's agent does not say how the command ended\n"},
		{wire.Exit{Signal: 128}, 125, "banger: the guest's agent does not say how the command ended\n"},
	} {
		w.command = func(*guestCall) wire.Exit { return test.exit }
		w.run("exec", "web", "x").want(t, test.code, "", test.stderr)
	}
}

func TestExecRefuses(t *testing.T) {
	w := newWorld(t).withDaemon()
	w.add("web", banger.StateStopped)
	w.add("bad", banger.StateBroken).Reason = "its disk is gone"
	w.run("exec", "web", "ls").want(t, 125, "", "banger: web is stopped; try: banger vm start web\n")
	w.run("exec", "bad", "ls").want(t, 125, "", "banger: bad is broken: its disk is gone; try: banger vm show bad\n")
	w.run("exec", "nosuch", "ls").want(t, 125, "", "banger: there is no VM \"nosuch\"; try: banger vm list\n")
	w.run("exec", "-o", "json", "web", "ls").want(t, 125, "",
		`{"error":{"kind":"conflict","message":"web is stopped","next":"banger vm start web"}}`+"\n")

	w.add("silent", banger.StateRunning)
	_ = os.Remove(w.layout.VM("00000000abcdef02").GuestSocket())
	if got := w.run("exec", "silent", "ls"); got.code != 125 || strings.Count(got.stderr, "\n") != 1 || !strings.Contains(got.stderr, "silent") {
		t.Errorf("%+v", got)
	}
}

func TestExecVMStopsMeanwhile(t *testing.T) {
	w := newWorld(t).withDaemon()
	w.add("web", banger.StateRunning)
	w.command = func(c *guestCall) wire.Exit {
		_, _ = io.WriteString(c.stdout, "begun\n")
		_ = c.conn.Close()
		return exitWith(0)
	}
	got := w.run("exec", "web", "sleep", "100")
	if got.code != 125 || got.stdout != "begun\n" || strings.Count(got.stderr, "\n") != 1 || !strings.Contains(got.stderr, "web") {
		t.Errorf("%+v", got)
	}
}

// TestExecReaderGone is banger exec web -- yes | head -1.
func TestExecReaderGone(t *testing.T) {
	w := newWorld(t).withDaemon()
	w.add("web", banger.StateRunning)
	ended := make(chan struct{})
	w.command = func(c *guestCall) wire.Exit {
		defer close(ended)
		for {
			if _, err := io.WriteString(c.stdout, strings.Repeat("y\n", 1000)); err != nil {
				return exitWith(0)
			}
		}
	}
	got := w.runIntoHead("exec", "web", "yes")
	got.want(t, 141, "", "")
	<-ended // the guest is told
}

func TestRunReaderGone(t *testing.T) {
	w := newWorld(t).withDaemon()
	w.command = func(c *guestCall) wire.Exit {
		for {
			if _, err := io.WriteString(c.stdout, "y\n"); err != nil {
				return exitWith(0)
			}
		}
	}
	w.runIntoHead("run", "--rm", "--", "yes").want(t, 141, "", "")
	w.wantQuestions("create", "lease", "exec [yes]", "delete "+otter+"?force=true", "release")
}

// runIntoHead runs the command with a stdout whose reader takes little and goes.
func (w *world) runIntoHead(args ...string) result {
	reader, writer, err := os.Pipe()
	if err != nil {
		w.t.Fatal(err)
	}
	defer writer.Close()
	go func() {
		_, _ = reader.Read(make([]byte, 2))
		_ = reader.Close()
	}()
	var stderr bytes.Buffer
	code := Run(context.Background(), w.process(strings.NewReader(""), writer, &stderr), args)
	return result{code: code, stderr: stderr.String()}
}

func TestExecSignals(t *testing.T) {
	w := newWorld(t).withDaemon()
	w.add("web", banger.StateRunning)
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2} {
		w.command = func(c *guestCall) wire.Exit {
			_ = syscall.Kill(os.Getpid(), sig)
			return wire.Exit{Signal: <-c.signals}
		}
		w.run("exec", "web", "x").want(t, 128+int(sig), "", "")
	}
}

// TestInterrupted is about a signal while the daemon works.
func TestInterrupted(t *testing.T) {
	for _, args := range []string{"vm create", "run --rm -- true", "run -- true", "run -d"} {
		w := newWorld(t).withDaemon()
		w.progress = []banger.Progress{{Stage: "boot"}}
		w.interrupt = 1
		w.run(strings.Fields(args)...).want(t, 130, "", "banger: create brave-otter was interrupted\n")
		w.wantQuestions("create", "cancel")
	}
}

func (w *world) wantQuestions(want ...string) {
	w.t.Helper()
	// The monitor hears of the release a moment after the connection is closed.
	soon(func() bool { return len(w.questions()) >= len(want) })
	if got := w.questions(); !reflect.DeepEqual(got, want) {
		w.t.Errorf("asked\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}
