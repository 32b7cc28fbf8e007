package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"banger.dev/banger"
	"banger.dev/banger/internal/ipc"
	"banger.dev/banger/internal/operation"
	"banger.dev/banger/internal/paths"
	"banger.dev/banger/internal/server"
	"banger.dev/banger/internal/server/servertest"
	"banger.dev/banger/internal/version"
)

// standIn, when set, makes this binary a daemon over a world of fake VMs, and
// says which: serve, hold (creates never end), brief (it leaves soon after its
// last client), fail, or mute (never listens).
const standIn = "BANGER_TEST_DAEMON"

func TestMain(m *testing.M) {
	if mode := os.Getenv(standIn); mode != "" {
		if err := serve(mode); err != nil {
			fmt.Fprintln(os.Stderr, "bangerd:", err)
			syscall.Exit(1)
		}
		syscall.Exit(0) // os.Exit takes a second under the race detector
	}
	goleak.VerifyTestMain(m)
}

// serve does what a daemon does around its VMs, and ends when asked to.
func serve(mode string) error {
	layout, err := paths.FromEnv(os.Getenv)
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "started with", strings.Join(os.Environ(), " "))
	if wd, err := os.Getwd(); err != nil || wd != "/" {
		return fmt.Errorf("the working directory is %s, %w", wd, err)
	}
	switch mode {
	case "fail":
		return errors.New("the database is damaged")
	case "mute":
		time.Sleep(time.Minute)
		return nil
	}
	if _, err := ipc.LockWait(context.Background(), layout.DaemonLock()); err != nil { // for life
		return err
	}
	listener, err := ipc.Listen(layout.DaemonSocket())
	if err != nil {
		return err
	}
	vms := &servertest.VMs{Text: "booting\nready\n"}
	if mode == "hold" {
		vms.Hold = make(chan struct{})
	}
	ctx, stop := context.WithCancel(context.Background())
	built, _ := strconv.ParseInt(os.Getenv(standIn+"_TIME"), 10, 64)
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	ops := operation.New[server.Result](log)
	since := time.Now()
	srv := server.New(server.Config{VMs: vms, Images: servertest.Images{}, Kernels: servertest.Kernels{}, Operations: ops,
		Events: &servertest.Events{}, Metrics: &servertest.Metrics{}, Stop: stop, Version: "v9-test", Build: version.Build{Time: built}, PID: os.Getpid(), Since: since, Log: log})
	if err := syscall.Dup3(2, 1, 0); err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(listener) }()
	for mode == "brief" {
		if _, last := srv.Activity(); !last.Equal(since) && srv.LeaveIfIdle(20*time.Millisecond) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if mode == "brief" {
		stop()
	}
	<-ctx.Done()
	return errors.Join(ops.Shutdown(context.Background()), srv.Shutdown(context.Background()), <-failed)
}

// home is a place for one daemon, and how it is started.
type home struct {
	t      *testing.T
	layout paths.Layout
	auto   Autostart
}

// newHome ends its daemon with the test.
func newHome(t *testing.T, mode string) *home {
	t.Helper()
	dir, err := os.MkdirTemp("", "banger-client-") // short, for the sockets
	if err != nil {
		t.Fatal(err)
	}
	layout, err := paths.FromEnv(func(name string) string {
		if name == "BANGER_HOME" {
			return dir
		}
		return ""
	})
	if err != nil {
		t.Fatal(err)
	}
	h := &home{t, layout, Autostart{
		Binary:  os.Args[0],
		Environ: []string{"BANGER_HOME=" + dir, standIn + "=" + mode, "HOME=/nowhere", "SECRET=hunter2", "PATH=/evil"},
	}}
	t.Cleanup(func() {
		if c, err := Connect(context.Background(), layout, Autostart{Disabled: true}); err == nil {
			if err := c.StopDaemon(context.Background()); err != nil {
				t.Error(err)
			}
			c.Close()
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return h
}

// connect reaches the daemon, started if need be.
func (h *home) connect() *Client {
	h.t.Helper()
	c, err := Connect(h.t.Context(), h.layout, h.auto)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(c.Close)
	return c
}

// said is the daemon's log.
func (h *home) said() string {
	h.t.Helper()
	content, err := os.ReadFile(h.layout.DaemonLog())
	if err != nil {
		h.t.Fatal(err)
	}
	return string(content)
}

func wantError(t *testing.T, err error, kind banger.Kind, says, next string) {
	t.Helper()
	if err == nil || banger.KindOf(err) != kind || !strings.Contains(err.Error(), says) || !strings.Contains(banger.NextOf(err), next) {
		t.Errorf("got %q, kind %q, next %q; want %q, kind %q, next %q", err, banger.KindOf(err), banger.NextOf(err), says, kind, next)
	}
	if err != nil && strings.ContainsAny(err.Error(), "\n") {
		t.Errorf("more than one line: %q", err)
	}
}

func TestNobodyAnswers(t *testing.T) {
	h := newHome(t, "serve")
	_, err := Connect(t.Context(), h.layout, Autostart{Disabled: true})
	wantError(t, err, banger.KindUnavailable, "the daemon is not running", "banger daemon start")
	if !errors.Is(err, ErrNotRunning) {
		t.Error("ErrNotRunning is not its cause")
	}
	if _, err := os.Stat(h.layout.Run); !os.IsNotExist(err) {
		t.Errorf("something was made: %v", err)
	}
}

func TestTwentyAtOnceStartOne(t *testing.T) {
	h := newHome(t, "serve")
	pids := make(chan int)
	for range 20 {
		go func() {
			c, err := Connect(t.Context(), h.layout, h.auto)
			if err != nil {
				t.Error(err)
				pids <- 0
				return
			}
			defer c.Close()
			ping, err := c.Ping(t.Context())
			if err != nil {
				t.Error(err)
			}
			pids <- ping.PID
		}()
	}
	first := <-pids
	for range 19 {
		if pid := <-pids; pid != first {
			t.Errorf("daemons %d and %d", first, pid)
		}
	}
	if n := strings.Count(h.said(), "started with"); n != 1 {
		t.Errorf("%d were started", n)
	}
}

func TestDaemonIsOnItsOwn(t *testing.T) {
	h := newHome(t, "serve")
	c := h.connect()
	ping, err := c.Ping(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	said := h.said()
	for _, want := range []string{"PATH=/usr/local/sbin:", "LANG=C.UTF-8", "HOME=/nowhere", "BANGER_HOME=/"} {
		if !strings.Contains(said, want) {
			t.Errorf("%s is not in its environment: %s", want, said)
		}
	}
	if strings.Contains(said, "hunter2") || strings.Contains(said, "/evil") {
		t.Errorf("the user's environment is in its own: %s", said)
	}
	proc := fmt.Sprintf("/proc/%d", ping.PID)
	stat, err := os.ReadFile(proc + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	if session := strings.Fields(rest)[3]; session != fmt.Sprint(ping.PID) {
		t.Errorf("its session is %s, its pid %d", session, ping.PID)
	}
	if null, err := os.Readlink(proc + "/fd/0"); err != nil || null != "/dev/null" {
		t.Errorf("its standard input is %s, %v", null, err)
	}
	fds, err := filepath.Glob(proc + "/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if name, err := os.Readlink(fd); err == nil && (strings.HasPrefix(name, "pipe:") || strings.HasSuffix(name, "start.lock")) {
			t.Errorf("it has %s open", name)
		}
	}
	for path, want := range map[string]os.FileMode{h.layout.DaemonLog(): 0o600, h.layout.Run: 0o700, h.layout.State: 0o700, h.layout.DaemonSocket(): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v; want %o", path, info.Mode(), err, want)
		}
	}
}

func TestStaleSocketOfKilledDaemon(t *testing.T) {
	h := newHome(t, "serve")
	first := kill(t, h.connect())
	second, err := h.connect().Ping(t.Context())
	if err != nil || second.PID == first {
		t.Errorf("pid %d after %d, %v", second.PID, first, err)
	}
}

// kill ends the daemon at once, and gives its pid.
func kill(t *testing.T, c *Client) int {
	t.Helper()
	ping, err := c.Ping(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	process, err := os.FindProcess(ping.PID)
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Kill(); err != nil {
		t.Fatal(err)
	}
	lock, err := ipc.LockWait(t.Context(), c.layout.DaemonLock()) // free once it is gone
	if err != nil {
		t.Fatal(err)
	}
	lock.Release()
	return ping.PID
}

func TestDaemonThatFailsToStart(t *testing.T) {
	h := newHome(t, "fail")
	_, err := Connect(t.Context(), h.layout, h.auto)
	wantError(t, err, banger.KindUnavailable, "exit status 1", "banger daemon logs")
	wantError(t, err, banger.KindUnavailable, "bangerd: the database is damaged", "")
}

func TestInterruptedWhileStarting(t *testing.T) {
	h := newHome(t, "mute")
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer cancel()
		for { // until it runs
			if content, err := os.ReadFile(h.layout.DaemonLog()); err == nil && strings.Contains(string(content), "started with") {
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	child := spawned(t, h)
	_, err := child.await(ctx, h.auto, h.layout)
	wantError(t, err, banger.KindCancelled, "interrupted", "")
}

// spawned is a daemon that is killed with the test.
func spawned(t *testing.T, h *home) *daemon {
	t.Helper()
	child, err := h.auto.spawn(h.layout)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := child.process.Kill(); err != nil {
			t.Error(err)
		}
		<-child.exited
	})
	return child
}

func TestProgramIsMissing(t *testing.T) {
	h := newHome(t, "serve")
	h.auto.Binary = filepath.Join(h.layout.State, "absent")
	_, err := Connect(t.Context(), h.layout, h.auto)
	wantError(t, err, banger.KindUnavailable, "absent", "make build")

	h.auto.Binary = ""
	t.Setenv("PATH", h.layout.State)
	_, err = Connect(t.Context(), h.layout, h.auto)
	wantError(t, err, banger.KindUnavailable, "bangerd", "make build")
}

func TestProgramInPath(t *testing.T) {
	dir := t.TempDir()
	want := filepath.Join(dir, "bangerd")
	if err := os.WriteFile(want, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	if got, err := (Autostart{}).binary(); err != nil || got != want {
		t.Errorf("%q, %v", got, err)
	}
}

func TestRelativeHomeBecomesAbsolute(t *testing.T) {
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	env := strings.Join(Autostart{Environ: []string{"BANGER_HOME=here", "BANGER_CACHE=", "BANGER_OTHER=x"}}.environment(), " ")
	if !strings.HasSuffix(env, "BANGER_HOME="+filepath.Join(wd, "here")+" BANGER_OTHER=x") {
		t.Error(env)
	}
}

func TestStopDaemon(t *testing.T) {
	h := newHome(t, "hold")
	c := h.connect()
	before, err := c.Ping(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.StopDaemon(t.Context()); err != nil {
		t.Fatal(err)
	}
	if lock, err := ipc.Lock(h.layout.DaemonLock()); err != nil {
		t.Errorf("it has not ended: %v", err)
	} else {
		lock.Release()
	}
	_, err = c.ListVMs(t.Context())
	wantError(t, err, banger.KindUnavailable, "not running", "banger daemon start")
	after, err := h.connect().Ping(t.Context())
	if err != nil || after.PID == before.PID {
		t.Errorf("the next one: pid %d after %d, %v", after.PID, before.PID, err)
	}
}

// mkdirState makes what a daemon would have made.
func mkdirState(h *home) error { return os.MkdirAll(h.layout.State, 0o700) }
