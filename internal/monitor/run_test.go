package monitor

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"banger.dev/banger/internal/guest"
	"banger.dev/banger/internal/proc"
	"banger.dev/banger/internal/vmm/vmmtest/fakeguest"
)

// tell has the guest do something over its command port.
func (v *vm) tell(line string) {
	v.t.Helper()
	conn := v.dial(fakeguest.PortCommand)
	defer func() { _ = conn.Close() }()
	if _, err := fmt.Fprintln(conn, line); err != nil {
		v.t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, conn) // until the guest has read it
}

func (v *vm) dial(port uint32) net.Conn {
	v.t.Helper()
	conn, err := guest.Dial(v.ctx, v.order.Files.GuestSocket(), port)
	if err != nil {
		v.t.Fatal(err)
	}
	return conn
}

// echo sends a megabyte through the guest and back.
func (v *vm) echo(conn net.Conn) {
	v.t.Helper()
	sent := make([]byte, 1<<20)
	_, _ = rand.Read(sent) // never fails
	go func() { _, _ = conn.Write(sent) }()
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(conn, got); err != nil {
		v.t.Fatal(err)
	}
	if !bytes.Equal(sent, got) {
		v.t.Error("what came back from the guest is not what was sent")
	}
}

func (v *vm) assertEnd(reason, detail string) Exit {
	v.t.Helper()
	exit := v.ended()
	if exit.Reason != reason || !strings.Contains(exit.Detail, detail) {
		v.t.Errorf("it ended by %q, %q; not by %q, %q", exit.Reason, exit.Detail, reason, detail)
	}
	return exit
}

func TestLifeAndPoweroff(t *testing.T) {
	v := spawn(t, newOrder(t, ""))
	if !v.held() {
		t.Error("the VM runs and its lock is free")
	}
	if s := v.status; s.MonitorPID == 0 || s.Boots != 1 || s.Started.IsZero() || !proc.Alive(s.VMM.PID, s.VMM.Start) {
		t.Errorf("it was started with the status %s", mustJSON(s))
	}
	for path, want := range map[string]fs.FileMode{
		v.order.Files.Run:             fs.ModeDir | 0o700,
		v.order.Files.MonitorSocket(): fs.ModeSocket | 0o600,
		v.order.Files.GuestSocket():   fs.ModeSocket | 0o600,
		v.order.Files.Lock():          0o600,
		v.order.Files.Console(0):      0o600,
		v.order.Files.VMMLog():        0o600,
	} {
		info, err := os.Lstat(path)
		if err != nil || info.Mode() != want {
			t.Errorf("%s: %v (%v), not %v", filepath.Base(path), info.Mode(), err, want)
		}
	}
	s, err := v.Ready(v.ctx)
	if err != nil || !s.Ready || s.Hello == nil || s.Hello.Init != "none" || s.Stage != "" {
		t.Fatalf("ready: %s, %v", mustJSON(s), err)
	}
	if init, err := v.Init(v.ctx); err != nil || init.State != "none" || !init.Done {
		t.Errorf("init: %+v, %v", init, err)
	}
	conn := v.dial(fakeguest.PortEcho)
	v.echo(conn)
	_ = conn.Close()

	v.tell("poweroff")
	exit := v.assertEnd(ReasonPoweroff, "powered off")
	if exit.Code != 0 || exit.Signal != "" || exit.Stage != "" || !strings.Contains(exit.Console, "banger: stage ports") {
		t.Errorf("exit.json is %s", mustJSON(exit))
	}
	if proc.Alive(v.status.VMM.PID, v.status.VMM.Start) {
		t.Error("the VMM is still there")
	}
	if _, err := v.Status(v.ctx); err == nil {
		t.Error("somebody answers for a VM that has ended")
	}
	if info, err := os.Stat(v.order.Files.Exit()); err != nil || info.Mode() != 0o600 {
		t.Errorf("exit.json: %v, %v", info.Mode(), err)
	}

	again := spawn(t, v.order)
	if _, err := os.Stat(v.order.Files.Exit()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a VM that runs has the exit.json of its last run (%v)", err)
	}
	if err := again.Kill(again.ctx); err != nil {
		t.Error(err)
	}
	again.ended()
	if log, err := os.ReadFile(v.order.Files.Console(0)); err != nil || bytes.Count(log, []byte("-- boot 1 of dev --")) != 2 {
		t.Errorf("the console of two runs (%v):\n%s", err, log)
	}
}

func TestShutdown(t *testing.T) {
	for _, test := range []struct {
		word    string
		timeout time.Duration
		killed  bool
		reason  string
	}{
		{"", patience, false, ReasonPoweroff},
		{fakeguest.Reboots, patience, false, ReasonPoweroff},
		{fakeguest.Ignores, 200 * time.Millisecond, true, ReasonKilled},
	} {
		t.Run("Guest"+test.word, func(t *testing.T) {
			v := spawnReady(t, newOrder(t, test.word))
			killed, err := v.Shutdown(v.ctx, test.timeout)
			if err != nil || killed != test.killed {
				t.Errorf("killed %t, %v", killed, err)
			}
			if proc.Alive(v.status.VMM.PID, v.status.VMM.Start) {
				t.Error("the VMM is still there")
			}
			if _, err := ReadExit(v.order.Files.Exit()); err != nil {
				t.Errorf("after the reply there is no exit.json: %v", err)
			}
			v.assertEnd(test.reason, "")
		})
	}
}

// TestShutdownSurvivesItsClient: a client that goes away leaves no guest half shut down.
func TestShutdownSurvivesItsClient(t *testing.T) {
	v := spawnReady(t, newOrder(t, fakeguest.Ignores))
	ctx, leave := context.WithCancel(v.ctx)
	defer leave()
	left := make(chan struct{})
	go func() {
		defer close(left)
		_, _ = v.Shutdown(ctx, time.Second)
	}()
	eventually(t, "the guest is asked", func() bool {
		log, err := os.ReadFile(v.order.Files.Console(0))
		return err == nil && bytes.Contains(log, []byte("asked to power off"))
	})
	leave()
	<-left
	v.assertEnd(ReasonKilled, "did not power off in time")
}

func TestShutdownTimeoutIsChecked(t *testing.T) {
	v := spawnReady(t, newOrder(t, ""))
	if _, err := v.Shutdown(v.ctx, -time.Second); err == nil || !strings.Contains(err.Error(), "timeout_ms") {
		t.Errorf("a negative timeout: %v", err)
	}
	if s := v.now(); !s.Ready {
		t.Errorf("the VM suffered: %s", mustJSON(s))
	}
}

func TestKill(t *testing.T) {
	v := spawn(t, newOrder(t, fakeguest.Stuck))
	if err := v.Kill(v.ctx); err != nil {
		t.Error(err)
	}
	if proc.Alive(v.status.VMM.PID, v.status.VMM.Start) {
		t.Error("the VMM is still there")
	}
	if exit := v.assertEnd(ReasonKilled, "killed"); exit.Code != -1 || exit.Signal == "" {
		t.Errorf("exit.json is %s", mustJSON(exit))
	}
}

func TestGuestsThatDoNotBoot(t *testing.T) {
	for _, test := range []struct {
		word, reason, detail, stage string
	}{
		{fakeguest.Fatal, ReasonBootFailed, "the root disk has no file system", "root"},
		{fakeguest.Silent, ReasonBootFailed, "ended before it was ready", "root"},
		{fakeguest.Panics, ReasonPanic, "test of a panic", "root"},
	} {
		t.Run(test.word, func(t *testing.T) {
			v := spawn(t, newOrder(t, test.word))
			if _, err := v.Ready(v.ctx); err == nil {
				t.Error("it became ready")
			}
			exit := v.assertEnd(test.reason, test.detail)
			if exit.Stage != test.stage || !strings.Contains(exit.Console, "banger: stage root") {
				t.Errorf("exit.json is %s", mustJSON(exit))
			}
		})
	}
}

func TestBootTimeout(t *testing.T) {
	order := newOrder(t, fakeguest.Stuck)
	order.BootTimeout = 2 * time.Second // by then it has come to where it is stuck
	v := spawn(t, order)
	if exit := v.assertEnd(ReasonBootFailed, "not ready within 2s"); exit.Stage != "root" {
		t.Errorf("exit.json is %s", mustJSON(exit))
	}
}

func TestPanicOfAReadyGuest(t *testing.T) {
	v := spawnReady(t, newOrder(t, ""))
	v.tell("panic")
	if exit := v.assertEnd(ReasonPanic, "the guest's kernel panicked: test of a panic"); exit.Stage != "" {
		t.Errorf("exit.json is %s", mustJSON(exit))
	}
}

func TestReboot(t *testing.T) {
	v := spawnReady(t, newOrder(t, ""))
	v.tell("reset")
	eventually(t, "the guest boots again", func() bool { return v.now().Boots == 2 })
	s, err := v.Ready(v.ctx)
	if err != nil || !s.Ready || s.Boots != 2 || s.VMM == v.status.VMM || s.MonitorPID != v.status.MonitorPID {
		t.Errorf("after the reboot: %s, %v", mustJSON(s), err)
	}
	if !proc.Alive(s.VMM.PID, s.VMM.Start) || !v.held() {
		t.Error("after the reboot there is no VMM, or the lock is free")
	}
	conn := v.dial(fakeguest.PortEcho)
	v.echo(conn)
	_ = conn.Close()
	if err := v.Kill(v.ctx); err != nil {
		t.Error(err)
	}
	v.assertEnd(ReasonKilled, "")
}

func TestRebootLimit(t *testing.T) {
	v := spawn(t, newOrder(t, ""))
	for boot := 1; boot <= 4; boot++ {
		eventually(t, "the guest boots", func() bool { return v.now().Boots == boot })
		if _, err := v.Ready(v.ctx); err != nil {
			t.Fatal(err)
		}
		v.tell("reset")
	}
	v.assertEnd(ReasonRebootLimit, "rebooted 4 times in a minute")
	log, err := os.ReadFile(v.order.Files.Console(0))
	if err != nil || !bytes.Contains(log, []byte("-- boot 4 of dev --")) || bytes.Contains(log, []byte("-- boot 5 of dev --")) {
		t.Errorf("not four boots (%v):\n%s", err, log)
	}
}

func TestVMMThatDies(t *testing.T) {
	t.Run("ByItself", func(t *testing.T) {
		v := spawnReady(t, newOrder(t, ""))
		v.tell("die")
		v.assertEnd(ReasonVMMFailed, "the VMM ended by itself")
	})
	t.Run("ByAnother", func(t *testing.T) {
		v := spawn(t, newOrder(t, fakeguest.Stuck))
		if err := syscall.Kill(v.status.VMM.PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if exit := v.assertEnd(ReasonVMMFailed, "signal killed"); exit.Signal != "killed" || exit.Code != -1 || exit.Stage == "" {
			t.Errorf("exit.json is %s", mustJSON(exit))
		}
	})
}

func TestMonitorKilled(t *testing.T) {
	v := spawnReady(t, newOrder(t, ""))
	if err := proc.Kill(v.status.MonitorPID, v.start, patience); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the VMM ends with its monitor", func() bool { return !proc.Alive(v.status.VMM.PID, v.status.VMM.Start) })
	eventually(t, "the lock is free", func() bool { return !v.held() })
	if _, err := ReadExit(v.order.Files.Exit()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there is an exit.json (%v)", err)
	}
	// The sockets of the dead are in nobody's way.
	again := spawnReady(t, v.order)
	if err := again.Kill(again.ctx); err != nil {
		t.Error(err)
	}
	again.ended()
}

func TestSecondMonitorRefuses(t *testing.T) {
	v := spawnReady(t, newOrder(t, ""))
	log, err := os.ReadFile(v.order.Files.Console(0))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := self(t).Spawn(v.ctx, v.order); err == nil || !strings.Contains(err.Error(), "another monitor runs this VM") {
		t.Errorf("a second monitor: %v", err)
	}
	if s := v.now(); !s.Ready || !v.held() {
		t.Errorf("the first monitor suffered: %s", mustJSON(s))
	}
	conn := v.dial(fakeguest.PortEcho)
	v.echo(conn)
	_ = conn.Close()
	if after, err := os.ReadFile(v.order.Files.Console(0)); err != nil || !bytes.Equal(log, after) {
		t.Errorf("the second monitor wrote to the console (%v)", err)
	}
	if err := v.Kill(v.ctx); err != nil {
		t.Error(err)
	}
	v.ended()
}

func TestPause(t *testing.T) {
	v := spawnReady(t, newOrder(t, ""))
	if err := v.Pause(v.ctx); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is paused", func() bool { s := v.now(); return s.Paused && s.Reason == "" })
	if err := v.Resume(v.ctx); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it goes on", func() bool { return !v.now().Paused })
	conn := v.dial(fakeguest.PortEcho)
	v.echo(conn)
	_ = conn.Close()
}

func TestPausedByAFullDisk(t *testing.T) {
	v := spawnReady(t, newOrder(t, fakeguest.Full))
	eventually(t, "it is paused, and says why", func() bool { s := v.now(); return s.Paused && s.Reason == "No space left on device" })
	if err := v.Resume(v.ctx); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it goes on", func() bool { s := v.now(); return !s.Paused && s.Reason == "" })
}

func TestWatch(t *testing.T) {
	v := spawn(t, newOrder(t, ""))
	seen := make(chan Status, 64)
	watched := make(chan error, 1)
	go func() { watched <- v.Watch(v.ctx, func(s Status) { seen <- s }) }()
	for s := range seen {
		if s.Ready {
			break
		}
	}
	if err := v.Pause(v.ctx); err != nil {
		t.Error(err)
	}
	for s := range seen {
		if s.Paused {
			break
		}
	}
	if err := v.Kill(v.ctx); err != nil {
		t.Error(err)
	}
	if err := <-watched; err != nil {
		t.Errorf("the end of the VM is an error to its watcher: %v", err)
	}
	v.ended()
}

// TestAgentRestart: streams of the old session break, new ones reach the new agent.
func TestAgentRestart(t *testing.T) {
	v := spawnReady(t, newOrder(t, ""))
	old := v.dial(fakeguest.PortEcho)
	defer func() { _ = old.Close() }()
	v.echo(old)
	v.tell("restart")
	if n, err := old.Read(make([]byte, 1)); err == nil {
		t.Errorf("%d bytes came over a stream of an agent that is gone", n)
	}
	for range 3 {
		conn := v.dial(fakeguest.PortEcho)
		v.echo(conn)
		_ = conn.Close()
	}
	if s := v.now(); !s.Ready || s.Boots != 1 {
		t.Errorf("the status is %s", mustJSON(s))
	}
}

// lease takes a lease; the returned function drops it.
func (v *vm) lease() (drop func()) {
	v.t.Helper()
	ctx, cancel := context.WithCancel(v.ctx)
	resp, err := v.do(ctx, http.MethodGet, RouteLease)
	if err != nil {
		cancel()
		v.t.Fatal(err)
	}
	return func() {
		cancel()
		_ = resp.Body.Close()
	}
}

func TestLeases(t *testing.T) {
	t.Run("NobodyComes", func(t *testing.T) {
		order := newOrder(t, "")
		order.LeaseTimeout = 100 * time.Millisecond
		spawn(t, order).assertEnd(ReasonKilled, "its client is gone")
	})
	t.Run("TheLastGoes", func(t *testing.T) {
		order := newOrder(t, "")
		order.LeaseTimeout = patience
		v := spawnReady(t, order)
		first, second := v.lease(), v.lease()
		first()
		conn := v.dial(fakeguest.PortEcho)
		v.echo(conn)
		_ = conn.Close()
		second()
		v.assertEnd(ReasonKilled, "its client is gone")
	})
	t.Run("WithoutATimeoutTheyMeanNothing", func(t *testing.T) {
		v := spawnReady(t, newOrder(t, ""))
		v.lease()()
		conn := v.dial(fakeguest.PortEcho)
		v.echo(conn)
		_ = conn.Close()
	})
}

func TestStartThatFails(t *testing.T) {
	t.Run("Kernel", func(t *testing.T) {
		order := newOrder(t, "")
		order.Machine.Kernel = filepath.Join(order.Files.Dir, "no-kernel")
		assertNotSpawned(t, order, "no-kernel: no such file or directory")
	})
	t.Run("VMM", func(t *testing.T) {
		order := newOrder(t, "")
		order.VMM = "none"
		assertNotSpawned(t, order, `no driver for the VMM "none"`)
	})
	t.Run("Order", func(t *testing.T) {
		order := newOrder(t, "")
		order.BootTimeout = 0
		assertNotSpawned(t, order, "order is incomplete")
	})
	t.Run("Program", func(t *testing.T) {
		order := newOrder(t, "")
		if _, err := (Spawner{Binary: "/bin/false"}).Spawn(t.Context(), order); err == nil || !strings.Contains(err.Error(), "ended without a word") {
			t.Errorf("a monitor that ends at once: %v", err)
		}
		if _, err := (Spawner{Binary: order.Files.Dir + "/none"}).Spawn(t.Context(), order); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a monitor that is not there: %v", err)
		}
	})
	t.Run("EndedContext", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		order := newOrder(t, "")
		if _, err := self(t).Spawn(ctx, order); !errors.Is(err, context.Canceled) {
			t.Errorf("an ended context: %v", err)
		}
		eventually(t, "nothing is left", func() bool {
			held, err := Held(order.Files.Lock())
			return err == nil && !held
		})
	})
}

func assertNotSpawned(t *testing.T, order Order, mention string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := self(t).Spawn(ctx, order); err == nil || !strings.Contains(err.Error(), mention) {
		t.Errorf("the error %v does not mention %q", err, mention)
	}
	if held, err := Held(order.Files.Lock()); err != nil || held {
		t.Errorf("the lock is held: %t, %v", held, err)
	}
}
