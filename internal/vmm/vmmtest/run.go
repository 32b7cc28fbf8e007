package vmmtest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"banger.dev/banger/internal/proc"
	"banger.dev/banger/internal/vmm"
	"banger.dev/banger/internal/vmm/vmmtest/testguest"
)

// patience bounds what takes a moment; an emulated boot on a busy host takes many.
const patience = 2 * time.Minute

// run is one machine under test.
type run struct {
	t       *testing.T
	ctx     context.Context
	m       vmm.Machine
	console *buffer
	events  chan vmm.Event // what the machine reports, without loss
	channel *bufio.Reader
}

func start(t *testing.T, s Subject, how testguest.How) *run {
	t.Helper()
	return startWith(t, t.Context(), s, how)
}

// startWith starts a machine with ctx, which is killed when the test ends.
func startWith(t *testing.T, ctx context.Context, s Subject, how testguest.How, hold ...*os.File) *run {
	t.Helper()
	runtime.LockOSThread() // the VMM's parent
	r := &run{t: t, console: &buffer{}, events: make(chan vmm.Event, 256)}
	cfg := s.Config
	log := &buffer{}
	cfg.Cmdline = strings.TrimSpace(cfg.Cmdline + " " + testguest.Word + string(how))
	cfg.Console, cfg.Log, cfg.Hold = r.console, log, hold
	m, err := s.Driver.Start(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	var cancel context.CancelFunc
	r.ctx, cancel = context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	t.Cleanup(func() {
		if err := m.Kill(); err != nil {
			t.Errorf("Kill: %v", err)
		}
		cancel()
		runtime.UnlockOSThread()
		if t.Failed() {
			t.Logf("console:\n%s", r.console)
		}
		if text := log.String(); text != "" {
			t.Errorf("the VMM complained: %s", text)
		}
	})
	r.m = m
	go func() {
		defer close(r.events)
		for e := range m.Events() {
			r.events <- e
		}
	}()
	return r
}

func (r *run) assertAlive() {
	r.t.Helper()
	h := r.m.Handle()
	start, err := proc.StartTime(h.PID)
	if err != nil || start != h.Start || !proc.Alive(h.PID, h.Start) {
		r.t.Errorf("%+v is no live process: it began at %d (%v)", h, start, err)
	}
}

// assertGone asserts that nothing of the process is left, not even a zombie.
func (r *run) assertGone() {
	r.t.Helper()
	h := r.m.Handle()
	if start, err := proc.StartTime(h.PID); err == nil && start == h.Start {
		r.t.Errorf("process %d is still there", h.PID)
	}
}

// assertDead asserts how a machine behaves that has ended.
func (r *run) assertDead() {
	r.t.Helper()
	r.assertGone()
	for { // closed, whatever is still in it
		if _, ok := <-r.events; !ok {
			break
		}
	}
	ended, cancel := context.WithCancel(r.ctx)
	cancel()
	if _, err := r.m.Wait(ended); err != nil {
		r.t.Errorf("Wait for a dead machine: %v", err)
	}
	for range 2 {
		if err := r.m.Kill(); err != nil {
			r.t.Errorf("Kill of a dead machine: %v", err)
		}
		if err := r.m.Shutdown(r.ctx); err != nil {
			r.t.Errorf("Shutdown of a dead machine: %v", err)
		}
	}
}

// expect takes the next event, which must be this one.
func (r *run) expect(want vmm.Event) {
	r.t.Helper()
	if got := r.event(); got != want {
		r.t.Fatalf("the machine reported %+v, not %+v", got, want)
	}
}

// expectReopened takes the events of an end that is closed and opened again.
func (r *run) expectReopened() {
	r.t.Helper()
	if got := r.event(); got != (vmm.Event{Type: vmm.EventChannel, Open: true}) {
		if got != (vmm.Event{Type: vmm.EventChannel}) {
			r.t.Fatalf("the machine reported %+v, not that the channel was closed", got)
		}
		r.expect(vmm.Event{Type: vmm.EventChannel, Open: true})
	}
}

func (r *run) event() vmm.Event {
	r.t.Helper()
	select {
	case got, ok := <-r.events:
		if !ok {
			r.t.Fatalf("the machine ended; console:\n%s", r.console)
		}
		return got
	case <-r.ctx.Done():
		r.t.Fatalf("the machine reports nothing; console:\n%s", r.console)
	}
	return vmm.Event{}
}

// wait returns how the machine ended.
func (r *run) wait() vmm.Exit {
	r.t.Helper()
	exit, err := r.m.Wait(r.ctx)
	if err != nil {
		r.t.Fatalf("the machine did not end: %v; console:\n%s", err, r.console)
	}
	r.assertGone()
	return exit
}

// waitFromMany waits from several goroutines; the channel takes one result each.
func (r *run) waitFromMany() chan vmm.Exit {
	results := make(chan vmm.Exit, 8)
	for range cap(results) {
		go func() {
			exit, err := r.m.Wait(r.ctx)
			if err != nil {
				r.t.Errorf("Wait: %v", err)
			}
			results <- exit
		}()
	}
	return results
}

func (r *run) stream() vmm.Stream { return r.m.(vmm.Channeler).Channel() }

// tell sends the guest one line.
func (r *run) tell(line string) {
	r.t.Helper()
	if err := r.stream().SetDeadline(time.Now().Add(patience)); err != nil {
		r.t.Fatal(err)
	}
	if _, err := fmt.Fprintln(r.stream(), line); err != nil {
		r.t.Fatalf("tell the guest %q: %v", line, err)
	}
}

// ask sends the guest one line and returns its answer.
func (r *run) ask(line string) string {
	r.t.Helper()
	r.tell(line)
	return r.answer()
}

func (r *run) answer() string {
	r.t.Helper()
	if r.channel == nil {
		r.channel = bufio.NewReader(r.stream())
	}
	answer, err := r.channel.ReadString('\n')
	if err != nil {
		r.t.Fatalf("no answer from the guest: %v; console:\n%s", err, r.console)
	}
	return strings.TrimSpace(answer)
}

// assertPauses asserts that a paused guest does nothing until it is resumed.
func (r *run) assertPauses() {
	r.t.Helper()
	p, ok := r.m.(vmm.Pauser)
	if !ok {
		r.t.Fatal("the driver's features say that it can pause, and its machine is no Pauser")
	}
	if err := p.Pause(r.ctx); err != nil {
		r.t.Fatalf("Pause: %v", err)
	}
	r.expect(vmm.Event{Type: vmm.EventPaused})
	r.tell("echo through the pause")
	if err := r.stream().SetDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
		r.t.Fatal(err)
	}
	if n, err := r.stream().Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		r.t.Errorf("a paused guest answered (%d bytes, %v)", n, err)
	}
	r.assertAlive()
	if err := r.stream().SetDeadline(time.Now().Add(patience)); err != nil {
		r.t.Fatal(err)
	}
	if err := p.Resume(r.ctx); err != nil {
		r.t.Fatalf("Resume: %v", err)
	}
	r.expect(vmm.Event{Type: vmm.EventResumed})
	if got := r.answer(); got != "through the pause" {
		r.t.Errorf("after the pause the guest answered %q", got)
	}
}

// assertNumbered asserts that the console has lines 1 to n once each, in order,
// and behind them the guest's last words.
func assertNumbered(t *testing.T, console string, n int, last string) {
	t.Helper()
	next, ended := 1, false
	for line := range strings.Lines(console) {
		line = strings.TrimRight(line, "\r\n")
		switch {
		case strings.HasPrefix(line, "line "):
			if line != testguest.NumberedLine(next) || ended {
				t.Fatalf("the console has %q where %q is due", line, testguest.NumberedLine(next))
			}
			next++
		case line == last:
			ended = true
		}
	}
	if next != n+1 || !ended {
		t.Errorf("the console has %d of %d lines, and the guest's last words: %t", next-1, n, ended)
	}
}

// lockedFile is a new file with an open-file-description lock.
func lockedFile(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "lock"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
		t.Fatal(err)
	}
	return f
}

func locked(t *testing.T, path string) bool {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lock); err != nil {
		t.Fatal(err)
	}
	return lock.Type != unix.F_UNLCK
}

// descriptors is what this process has open.
func descriptors(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var open []string
	for _, e := range entries {
		if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil { // the directory's own is closed again
			open = append(open, e.Name()+" "+target)
		}
	}
	return open
}

// children is the processes whose parent is this one, zombies too.
func children(t *testing.T) []int {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
		if err != nil {
			continue // gone
		}
		_, rest, _ := bytes.Cut(stat[bytes.LastIndexByte(stat, ')')+1:], []byte(" "))
		if fields := strings.Fields(string(rest)); len(fields) > 1 && fields[1] == strconv.Itoa(os.Getpid()) {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

func eventually(t *testing.T, what string, true func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !true() {
		if time.Now().After(deadline) {
			t.Fatalf("in vain: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// buffer is a bytes.Buffer for several goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
