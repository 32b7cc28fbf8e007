package lifecycle_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"banger.dev/banger"
	"banger.dev/banger/internal/agent/wire"
	"banger.dev/banger/internal/lifecycle"
	"banger.dev/banger/internal/monitor"
	"banger.dev/banger/internal/vmm"
)

// host is the processes of a fake world: monitors with their VMMs and guests.
// They outlive the Manager that started them, as the real ones do, hold real
// locks, write a real exit.json and end in the order of package monitor: the
// VMM, exit.json, the sockets, the lock.
type host struct {
	wg    sync.WaitGroup
	locks *lifecycle.LockRecorder

	mu        sync.Mutex
	bootID    string
	lastPID   int
	live      map[string]*machine // by monitor socket
	monitors  map[int]*machine    // the same, by pid
	guests    map[string]guest    // by VM name; the zero guest boots at once
	heldError error               // why a lock cannot be asked for
	afterHeld func()              // called once, when a lock has been asked for
}

// guest is how a VM behaves.
type guest struct {
	spawnError error                   // its VMM cannot be started
	boots      time.Duration           // until it is ready
	hangs      bool                    // it is never ready
	panics     bool                    // its kernel panics in the boot
	dies       bool                    // its monitor is killed during the boot
	deaf       bool                    // it ignores a shutdown
	diesPaused bool                    // its monitor is killed when it is paused
	refuses    error                   // why it does not change its ports
	small      string                  // why its file system does not grow with its disk
	stiff      error                   // why its VMM cannot grow a disk
	sticks     string                  // why its VMM pauses it again whenever it is resumed
	initNever  bool                    // its init never finishes
	onSpawn    func(m *machine)        // called when the VMM runs, before Spawn returns
	onReady    <-chan struct{}         // the boot waits for this
	afterReady func(*machine)          // called when an answer that it is ready is on its way
	onShutdown func(time.Duration)     // called when it is asked to power off
	status     func(s *monitor.Status) // changes what the monitor says
}

// How long a monitor takes from its VMM's end to exit.json, and from there to
// its own end.
const (
	exitDelay = 30 * time.Millisecond
	lockDelay = 20 * time.Millisecond
)

type machine struct {
	host  *host
	order monitor.Order
	guest guest
	lock  *os.File

	ready   chan struct{} // closed when the guest is ready
	ending  chan monitor.Exit
	sigkill chan struct{} // closed to kill the monitor
	vmmGone chan struct{}
	done    chan struct{} // exit.json is written
	gone    chan struct{} // the lock is free

	mu      sync.Mutex
	st      monitor.Status
	changed chan struct{}
	mute    bool // it answers nothing
	grown   map[int]banger.Bytes
	drift   time.Duration // of the guest's clock
	stats   monitor.Stats
	asked   bool // ending has been sent
	once    sync.Once
}

func newHost() *host {
	return &host{bootID: "boot-1", lastPID: 100, live: map[string]*machine{}, monitors: map[int]*machine{}, guests: map[string]guest{}}
}

// Spawn implements lifecycle.Monitors.
func (h *host) Spawn(ctx context.Context, order monitor.Order) (monitor.Status, error) {
	h.locks.IO("a monitor's start")
	if err := ctx.Err(); err != nil {
		return monitor.Status{}, err
	}
	h.mu.Lock()
	g := h.guests[order.Name]
	h.mu.Unlock()
	lock, err := takeLock(order.Files.Lock())
	if err != nil {
		return monitor.Status{}, err
	}
	err = errors.Join(removed(order.Files.Exit()), os.MkdirAll(order.Files.Run, 0o700))
	for _, path := range []string{order.Files.MonitorSocket(), order.Files.GuestSocket(), order.Files.Console(0), order.Files.MonitorLog()} {
		err = errors.Join(err, os.WriteFile(path, []byte("Linux version 6.1\n"), 0o600))
	}
	if g.spawnError != nil {
		err = errors.Join(err, g.spawnError, os.RemoveAll(order.Files.Run))
	}
	if err != nil {
		return monitor.Status{}, errors.Join(err, lock.Close())
	}
	return h.run(order, g, lock), nil
}

func (h *host) run(order monitor.Order, g guest, lock *os.File) monitor.Status {
	h.mu.Lock()
	pid := h.lastPID + 2
	h.lastPID = pid
	m := &machine{
		host: h, order: order, guest: g, lock: lock,
		ready: make(chan struct{}), ending: make(chan monitor.Exit, 1), sigkill: make(chan struct{}),
		vmmGone: make(chan struct{}), done: make(chan struct{}), gone: make(chan struct{}), changed: make(chan struct{}),
		st: monitor.Status{MonitorPID: pid, VMM: vmm.Handle{PID: pid + 1, Start: startOf(pid + 1)}, Started: time.Now(), Stage: wire.StageKernel, Boots: 1},
	}
	h.live[order.Files.MonitorSocket()], h.monitors[pid] = m, m
	h.mu.Unlock()
	h.wg.Go(m.live)
	s := m.status()
	if g.onSpawn != nil {
		g.onSpawn(m)
	}
	return s
}

func startOf(pid int) uint64 { return uint64(pid) * 7 }

func takeLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
		return nil, errors.Join(fmt.Errorf("two VMMs on one disk: %w", err), f.Close())
	}
	return f, nil
}

func removed(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// live is the monitor's process.
func (m *machine) live() {
	defer m.free()
	boot := time.NewTimer(m.order.BootTimeout)
	defer boot.Stop()
	up := time.NewTimer(m.guest.boots)
	defer up.Stop()
	ready := up.C
	if m.guest.hangs || m.guest.onReady != nil {
		ready = nil
	}
	if m.guest.panics {
		m.end(monitor.ReasonPanic, "the guest's kernel panicked: VFS: Unable to mount root fs")
		ready = nil
	}
	if m.guest.dies {
		return
	}
	for {
		select {
		case <-m.guest.onReady:
			m.guest.onReady = nil
			m.becomeReady()
		case <-ready:
			m.becomeReady()
		case <-boot.C:
			if !m.status().Ready {
				m.end(monitor.ReasonBootFailed, fmt.Sprintf("the guest was not ready within %s", m.order.BootTimeout))
			}
		case exit := <-m.ending:
			m.conclude(exit)
			return
		case <-m.sigkill:
			return
		}
	}
}

func (m *machine) becomeReady() {
	m.change(func(s *monitor.Status) { s.Ready, s.Stage = true, "" })
	close(m.ready)
}

// conclude writes exit.json and closes the sockets, unless it is killed before.
func (m *machine) conclude(exit monitor.Exit) {
	s := m.status()
	if !s.Ready {
		exit.Stage = s.Stage
	}
	close(m.vmmGone)
	select {
	case <-time.After(exitDelay):
	case <-m.sigkill:
		return
	}
	exit.Time, exit.Console = time.Now(), "Linux version 6.1\nbanger: stage root\nsomething is wrong\n"
	b, err := json.Marshal(exit)
	if err == nil {
		err = os.WriteFile(m.order.Files.Exit(), b, 0o600)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		panic(err)
	}
	close(m.done)
	_ = os.RemoveAll(m.order.Files.Run)
	select {
	case <-time.After(lockDelay):
	case <-m.sigkill:
	}
}

// free is the end of both processes.
func (m *machine) free() {
	pid := m.status().MonitorPID
	m.host.mu.Lock()
	delete(m.host.monitors, pid)
	if m.host.live[m.order.Files.MonitorSocket()] == m {
		delete(m.host.live, m.order.Files.MonitorSocket())
	}
	m.host.mu.Unlock()
	_ = m.lock.Close()
	close(m.gone)
}

// end has the VM end; the first reason counts.
func (m *machine) end(reason, detail string) {
	m.mu.Lock()
	first := !m.asked
	m.asked = true
	m.mu.Unlock()
	if first {
		m.ending <- monitor.Exit{LastExit: banger.LastExit{Reason: reason}, Detail: detail}
	}
}

// kill is SIGKILL to the monitor; it returns when both processes are gone.
func (m *machine) kill() {
	m.once.Do(func() { close(m.sigkill) })
	<-m.gone
}

func (m *machine) status() monitor.Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.st
	if m.guest.status != nil {
		m.guest.status(&s)
	}
	return s
}

func (m *machine) change(f func(*monitor.Status)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f(&m.st)
	close(m.changed)
	m.changed = make(chan struct{})
}

// Held implements lifecycle.Monitors.
func (h *host) Held(lock string) (bool, error) {
	h.locks.IO("a look at a VM's lock")
	h.mu.Lock()
	err, after := h.heldError, h.afterHeld
	h.afterHeld = nil
	h.mu.Unlock()
	if after != nil {
		defer after()
	}
	if err != nil {
		return false, err
	}
	return monitor.Held(lock)
}

// Connect implements lifecycle.Monitors.
func (h *host) Connect(socket string) lifecycle.Monitor { return client{h, socket} }

// client is lifecycle's view of a monitor.
type client struct {
	host   *host
	socket string
}

var errNoAnswer = errors.New("the VM's monitor does not answer")

// dial finds the monitor and lets it answer. A closed socket and a dead process
// are an error, a stopped process is waited for.
func (c client) dial(ctx context.Context) (*machine, error) {
	c.host.locks.IO("a call to a monitor")
	c.host.mu.Lock()
	m := c.host.live[c.socket]
	c.host.mu.Unlock()
	if m == nil {
		return nil, fmt.Errorf("%w: no such file", errNoAnswer)
	}
	select {
	case <-m.done:
		return nil, fmt.Errorf("%w: no such file", errNoAnswer)
	default:
	}
	m.mu.Lock()
	mute := m.mute
	m.mu.Unlock()
	if !mute {
		return m, ctx.Err()
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-m.gone:
		return nil, fmt.Errorf("%w: EOF", errNoAnswer)
	}
}

// await waits for what a call is about.
func await(ctx context.Context, m *machine, event <-chan struct{}) error {
	select {
	case <-event:
		return nil
	case <-m.done:
		return errors.New("the VM's monitor: the VM has ended")
	case <-m.gone:
		return fmt.Errorf("%w: EOF", errNoAnswer)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c client) Status(ctx context.Context) (monitor.Status, error) {
	m, err := c.dial(ctx)
	if err != nil {
		return monitor.Status{}, err
	}
	return m.status(), nil
}

func (c client) Stats(ctx context.Context) (monitor.Stats, error) {
	m, err := c.dial(ctx)
	if err != nil {
		return monitor.Stats{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stats, nil
}

func (c client) Clock(ctx context.Context) (time.Duration, error) {
	m, err := c.dial(ctx)
	if err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.drift, nil
}

func (c client) SetClock(ctx context.Context) (time.Duration, error) {
	m, err := c.dial(ctx)
	if err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.drift
	m.drift = 0
	return before, nil
}

func (c client) Ready(ctx context.Context) (monitor.Status, error) {
	m, err := c.dial(ctx)
	if err == nil {
		err = await(ctx, m, m.ready)
	}
	if err != nil {
		return monitor.Status{}, err
	}
	s := m.status()
	if m.guest.afterReady != nil { // the answer is on its way
		m.guest.afterReady(m)
	}
	return s, nil
}

func (c client) Init(ctx context.Context) (wire.InitStatus, error) {
	m, err := c.dial(ctx)
	if err != nil {
		return wire.InitStatus{}, err
	}
	if m.guest.initNever {
		return wire.InitStatus{State: "starting"}, nil
	}
	return wire.InitStatus{State: "running", Done: true}, nil
}

func (c client) Shutdown(ctx context.Context, timeout time.Duration) (killed bool, err error) {
	m, err := c.dial(ctx)
	if err != nil {
		return false, err
	}
	if m.guest.onShutdown != nil {
		m.guest.onShutdown(timeout)
	}
	if !m.guest.deaf {
		m.end(monitor.ReasonPoweroff, "the guest powered off")
	}
	late := time.NewTimer(timeout)
	defer late.Stop()
	select {
	case <-m.vmmGone:
		return false, nil
	case <-late.C:
		m.end(monitor.ReasonKilled, "the guest did not power off in time")
		return true, await(ctx, m, m.vmmGone)
	case <-m.gone:
		return false, fmt.Errorf("%w: EOF", errNoAnswer)
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

func (c client) Kill(ctx context.Context) error {
	m, err := c.dial(ctx)
	if err != nil {
		return err
	}
	m.end(monitor.ReasonKilled, "killed")
	return await(ctx, m, m.vmmGone)
}

func (c client) Pause(ctx context.Context) error {
	m, err := c.dial(ctx)
	if err != nil {
		return err
	}
	if m.guest.diesPaused {
		m.kill()
		return nil
	}
	m.pause("")
	return nil
}

// pause stops the vCPUs, as a VMM does by itself when it meets an error.
func (m *machine) pause(reason string) {
	m.change(func(s *monitor.Status) {
		s.Paused, s.Reason = true, reason
		s.Pauses++
	})
}

func (c client) Resume(ctx context.Context) error {
	m, err := c.dial(ctx)
	if err != nil {
		return err
	}
	if m.guest.sticks != "" {
		m.pause(m.guest.sticks)
		return nil
	}
	m.change(func(s *monitor.Status) { s.Paused, s.Reason = false, "" })
	return nil
}

func (c client) Grow(ctx context.Context, disk int, size banger.Bytes) (string, error) {
	m, err := c.dial(ctx)
	if err != nil {
		return "", err
	}
	if m.guest.stiff != nil {
		return "", m.guest.stiff
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.grown = map[int]banger.Bytes{disk: size}
	return m.guest.small, nil
}

func (c client) Watch(ctx context.Context, each func(monitor.Status)) error {
	m, err := c.dial(ctx)
	if err != nil {
		return err
	}
	for {
		m.mu.Lock()
		changed := m.changed
		m.mu.Unlock()
		each(m.status())
		select {
		case <-changed:
		case <-m.done:
			return nil
		case <-m.gone:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// byPID finds the machine of a monitor's or a VMM's pid.
func (h *host) byPID(pid int) *machine {
	h.mu.Lock()
	defer h.mu.Unlock()
	if m := h.monitors[pid]; m != nil {
		return m
	}
	for _, m := range h.live {
		if s := m.status(); s.MonitorPID == pid || s.VMM.PID == pid {
			return m
		}
	}
	return nil
}

// Kill implements lifecycle.Processes.
func (h *host) Kill(pid int, start uint64, _ time.Duration) error {
	h.locks.IO("a kill")
	m := h.byPID(pid)
	if m == nil || startOf(pid) != start {
		return nil
	}
	if pid == m.status().MonitorPID {
		m.kill()
	} else {
		m.end(monitor.ReasonVMMFailed, "the VMM ended by itself: failed (signal killed)")
		<-m.gone
	}
	return nil
}

// StartTime implements lifecycle.Processes.
func (h *host) StartTime(pid int) (uint64, error) {
	if h.byPID(pid) == nil {
		return 0, fmt.Errorf("/proc/%d/stat: %w", pid, os.ErrNotExist)
	}
	return startOf(pid), nil
}

// Process implements lifecycle.Meter.
func (h *host) Process(pid int, start uint64) (time.Duration, banger.Bytes, error) {
	if h.byPID(pid) == nil || startOf(pid) != start {
		return 0, 0, os.ErrProcessDone
	}
	return time.Duration(pid) * time.Second, banger.Bytes(pid) * banger.MiB, nil
}

// Allocated implements lifecycle.Meter.
func (h *host) Allocated(path string) (banger.Bytes, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return banger.Bytes(info.Size()), nil
}

// BootID implements lifecycle.Processes.
func (h *host) BootID() (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.bootID, nil
}

func (h *host) all() []*machine {
	h.mu.Lock()
	defer h.mu.Unlock()
	var list []*machine
	for _, m := range h.live {
		list = append(list, m)
	}
	return list
}

// named is the live machine of a VM, or nil.
func (h *host) named(name string) *machine {
	for _, m := range h.all() {
		if m.order.Name == name {
			return m
		}
	}
	return nil
}

// killAll is what a reboot, or the end of a test, does to all processes.
func (h *host) killAll() {
	for _, m := range h.all() {
		m.kill()
	}
}

// reboot restarts the host: no process is left, nor what is in run.
func (h *host) reboot(run string) error {
	h.killAll()
	h.mu.Lock()
	h.bootID += "+"
	h.mu.Unlock()
	entries, err := os.ReadDir(run)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(run, e.Name())))
	}
	return err
}
