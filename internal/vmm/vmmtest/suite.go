package vmmtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/proc"
	"banger.dev/banger/internal/vmm"
	"banger.dev/banger/internal/vmm/vmmtest/testguest"
)

// Subject is a driver to test and a machine that it can start.
type Subject struct {
	Driver vmm.Driver
	// Config is complete but for Console, Log and Hold. Its guest is package
	// testguest's, and words can be added to its command line.
	Config vmm.Config
	// Refuse changes a machine into one that the VMM itself refuses.
	Refuse func(*vmm.Config)
	// ObeysButton says that the guest powers off at the press of the button.
	ObeysButton bool
}

// Suite is what every driver must pass. setup is called for each test; the
// package's TestMain must call Main with the same driver.
func Suite(t *testing.T, setup func(t *testing.T) Subject) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, Subject)
	}{
		{"FailedStartLeavesNothing", testFailedStart},
		{"ALife", testLife},
		{"Reset", testReset},
		{"GuestThatIgnoresEverything", testHung},
		{"PowerButton", testButton},
		{"GrownDisk", testGrown},
		{"KilledFromOutside", testKilledFromOutside},
		{"Network", testNetwork},
		{"ParentDeath", testParentDeath},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, setup(t)) })
	}
}

func testFailedStart(t *testing.T, s Subject) {
	none := filepath.Join(t.TempDir(), "none")
	disk := func(path, backing string) func(*vmm.Config) {
		return func(c *vmm.Config) {
			c.Disks = append(c.Disks, vmm.Disk{Path: path, Format: "raw", ReadOnly: true, Backing: backing, BackingFormat: "raw"})
		}
	}
	for _, test := range []struct {
		name    string
		mention string // in the error
		spoil   func(*vmm.Config)
	}{
		{"Binary", none, func(c *vmm.Config) { c.Binary = none }},
		{"Kernel", none, func(c *vmm.Config) { c.Kernel = none }},
		{"Initramfs", none, func(c *vmm.Config) { c.Initramfs = none }},
		{"Disk", none, disk(none, "")},
		{"Backing", none, disk(s.Config.Kernel, none)},
		{"Refused", "", s.Refuse},
	} {
		t.Run(test.name, func(t *testing.T) {
			lock := lockedFile(t)
			cfg := s.Config
			cfg.Console, cfg.Log, cfg.Hold = &buffer{}, &buffer{}, []*os.File{lock}
			test.spoil(&cfg)
			assertNothingStarts(t, t.Context(), s.Driver, cfg, test.mention)
		})
	}
	t.Run("EndedContext", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		assertNothingStarts(t, ctx, s.Driver, s.Config, "")
	})
}

func assertNothingStarts(t *testing.T, ctx context.Context, d vmm.Driver, cfg vmm.Config, mention string) {
	t.Helper()
	fds, processes := descriptors(t), children(t)
	m, err := d.Start(ctx, cfg)
	if err == nil {
		_ = m.Kill()
		t.Fatal("Start did not fail")
	}
	if m != nil {
		t.Errorf("Start failed and gave a machine too: %v", m)
	}
	if !strings.Contains(err.Error(), mention) {
		t.Errorf("the error %q does not mention %q", err, mention)
	}
	if after := descriptors(t); len(after) > len(fds) {
		t.Errorf("descriptors are left open:\nbefore %q\nafter  %q", fds, after)
	}
	if after := children(t); len(after) > len(processes) {
		t.Errorf("processes are left: %v, before %v", after, processes)
	}
}

// testLife follows one machine from its start to the guest's own power-off.
func testLife(t *testing.T, s Subject) {
	if s.Driver.Features().Vsock {
		t.Skip("this part speaks with the guest over the Channel, which a VMM with vsock has not")
	}
	lock := lockedFile(t)
	ctx, cancel := context.WithCancel(t.Context())
	r := startWith(t, ctx, s, testguest.Serve, lock)
	cancel() // a context bounds the call, not the machine's life
	path := lock.Name()
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}

	r.assertAlive()
	r.expect(vmm.Event{Type: vmm.EventChannel, Open: true})
	if got := r.ask("echo the first session"); got != "the first session" {
		t.Errorf("the guest answered %q", got)
	}
	if !locked(t, path) {
		t.Error("the VMM does not keep the descriptors of Hold open: their lock is free")
	}
	if s.Driver.Features().Pause {
		r.assertPauses()
	}
	r.tell("reopen")
	r.expectReopened()
	if got := r.ask("echo the second session"); got != "the second session" {
		t.Errorf("after its port was opened anew the guest answered %q", got)
	}
	const lines = 1500
	if got := r.ask(fmt.Sprintf("console %d", lines)); got != "ok" {
		t.Errorf("the guest answered %q", got)
	}

	waiters := r.waitFromMany()
	r.tell(string(testguest.Poweroff))
	exit := r.wait()
	assertNumbered(t, r.console.String(), lines, "test: "+string(testguest.Poweroff))
	if exit.Cause != vmm.CausePoweroff || exit.Code != 0 || exit.Signal != "" {
		t.Errorf("a guest that powered off gave %v", exit)
	}
	for range cap(waiters) {
		if other := <-waiters; other != exit {
			t.Errorf("another goroutine that waited got %v, not %v", other, exit)
		}
	}
	if locked(t, path) {
		t.Error("the lock is held after the machine's end")
	}
	r.assertDead()
	if exit, err := r.m.Wait(t.Context()); err != nil || exit.Cause != vmm.CausePoweroff {
		t.Errorf("Kill and Shutdown of a dead machine changed how it ended: %v, %v", exit, err)
	}
}

func testReset(t *testing.T, s Subject) {
	r := start(t, s, testguest.Reset)
	if exit := r.wait(); exit.Cause != vmm.CauseReset {
		t.Errorf("a guest that reset itself gave %v; console:\n%s", exit, r.console)
	}
	r.assertDead()
}

func testHung(t *testing.T, s Subject) {
	r := start(t, s, testguest.Hang)
	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := r.m.Shutdown(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown of a guest that ignores it: %v", err)
	}
	if _, err := r.m.Wait(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Wait whose time is up: %v", err)
	}
	r.assertAlive()

	// A VMM that is stopped answers nobody: the calls must not hang with it.
	if err := syscall.Kill(r.m.Handle().PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	short, cancel = context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	var calls sync.WaitGroup
	for range 2 {
		calls.Go(func() {
			if err := r.m.Shutdown(short); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Shutdown of a VMM that is stopped: %v", err)
			}
		})
	}
	calls.Wait()

	waiters := r.waitFromMany()
	if err := r.m.Kill(); err != nil {
		t.Errorf("Kill: %v", err)
	}
	r.assertGone()
	for range cap(waiters) {
		if exit := <-waiters; exit.Cause != vmm.CauseKilled || exit.Signal == "" || exit.Code != -1 {
			t.Errorf("a machine that was killed gave %v", exit)
		}
	}
	r.assertDead()
}

func testButton(t *testing.T, s Subject) {
	if !s.ObeysButton {
		t.Skip("this subject's guest has nothing that hears the power button")
	}
	r := start(t, s, testguest.Serve)
	if err := r.m.Shutdown(r.ctx); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	r.assertGone()
	if exit := r.wait(); exit.Cause != vmm.CausePoweroff {
		t.Errorf("a guest that powered off at the button gave %v", exit)
	}
	r.assertDead()
}

// testGrown grows a disk under a machine that runs; the raw file shows how large
// it is.
func testGrown(t *testing.T, s Subject) {
	if !s.Driver.Features().Grow {
		t.Skip("this driver's disks keep their size")
	}
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, make([]byte, banger.MiB), 0o600); err != nil {
		t.Fatal(err)
	}
	s.Config.Disks = []vmm.Disk{{Path: s.Config.Kernel, Format: "raw", ReadOnly: true}, {Path: path, Format: "raw"}}
	r := start(t, s, testguest.Hang)
	g, ok := r.m.(vmm.Grower)
	if !ok {
		t.Fatal("the driver's features say that it can grow disks, and its machine is no Grower")
	}
	for _, step := range []struct{ ask, want banger.Bytes }{
		{3 * banger.MiB, 3 * banger.MiB}, {2 * banger.MiB, 3 * banger.MiB}, {3 * banger.MiB, 3 * banger.MiB}, {5 * banger.GiB, 5 * banger.GiB},
	} {
		if err := g.Grow(r.ctx, 1, step.ask); err != nil {
			t.Fatalf("Grow to %s: %v", step.ask, err)
		}
		if info, err := os.Stat(path); err != nil || info.Size() != int64(step.want) {
			t.Errorf("grown to %s it has %d bytes, %v", step.ask, info.Size(), err)
		}
	}
	for disk, what := range map[int]string{0: "one that is read-only", 2: "one that is not there", -1: "one that cannot be"} {
		if err := g.Grow(r.ctx, disk, banger.TiB); err == nil {
			t.Errorf("Grow of %s did not fail", what)
		}
	}
	if err := r.m.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := g.Grow(r.ctx, 1, banger.TiB); err == nil {
		t.Error("Grow of a dead machine did not fail")
	}
	r.assertDead()
}

func testKilledFromOutside(t *testing.T, s Subject) {
	r := start(t, s, testguest.Hang)
	if err := syscall.Kill(r.m.Handle().PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	exit := r.wait()
	if exit.Cause != vmm.CauseFailed || exit.Signal != syscall.SIGKILL.String() || exit.Code != -1 {
		t.Errorf("a VMM that somebody killed gave %v, code %d", exit, exit.Code)
	}
	if exit.Time.IsZero() || time.Since(exit.Time) < 0 {
		t.Errorf("it ended at %s", exit.Time)
	}
	r.assertDead()
}

func testParentDeath(t *testing.T, s Subject) {
	handle, kill := startInChild(t, s)
	if !proc.Alive(handle.PID, handle.Start) {
		t.Fatal("the VMM of a parent that lives does not")
	}
	kill()
	eventually(t, "the VMM ends with its parent", func() bool { return !proc.Alive(handle.PID, handle.Start) })
}
