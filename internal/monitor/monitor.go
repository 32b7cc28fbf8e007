package monitor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/agent/wire"
	"banger.dev/banger/internal/guest"
	"banger.dev/banger/internal/network/user"
	"banger.dev/banger/internal/publish"
	"banger.dev/banger/internal/replace"
	"banger.dev/banger/internal/vmm"
)

// Reboots of the guest within rebootWindow beyond maxReboots end the run.
const (
	maxReboots   = 3
	rebootWindow = time.Minute
)

// Run is the monitor's process. It reads its order from stdin, tells on stdout
// that the VMM runs or why not, and returns when the VM has ended and exit.json
// says how. It stays on the calling goroutine's thread, whose death ends the
// VMM, so it is called from main.
func Run(ctx context.Context, drivers map[banger.VMM]vmm.Driver, stdin io.Reader, stdout io.WriteCloser, log *slog.Logger) error {
	runtime.LockOSThread()
	order, err := readOrder(stdin)
	if err != nil {
		return errors.Join(err, report(stdout, nil, err))
	}
	if order.Request != "" {
		log = log.With("request", order.Request)
	}
	log.Info("the VM is started", "vm", order.Name)
	m, err := open(order, drivers, log)
	if err != nil {
		return errors.Join(err, report(stdout, nil, err))
	}
	defer m.close()
	machine, err := m.boot(ctx)
	if err != nil {
		return errors.Join(err, report(stdout, nil, err))
	}
	m.server.serve()
	m.ports.Serve()
	status := m.status()
	if err := report(stdout, &status, nil); err != nil {
		// The daemon died meanwhile; the next one finds the VM by its lock.
		log.Warn("nobody heard that the VM was started", "err", err)
	}
	return m.stay(ctx, machine)
}

// report writes the one line that the daemon waits for.
func report(w io.WriteCloser, s *Status, cause error) error {
	line := started{Status: s}
	if cause != nil {
		line.Error = cause.Error()
		if errors.As(cause, new(*banger.Error)) {
			line.Refused = asRefusal(cause)
		}
	}
	return errors.Join(json.NewEncoder(w).Encode(line), w.Close())
}

// monitor is the state of one running VM.
type monitor struct {
	order   Order
	driver  vmm.Driver
	log     *slog.Logger
	lock    *os.File
	console *console
	vmmLog  *boundedLog
	server  *server
	network *user.Network // nil without a network card
	idle    func()        // tells that the guest was used, see releaseMemory
	guest   guestMeter
	leases  *leases
	ports   *publish.Set
	done    chan struct{} // closed when the VM has ended

	sessions, streams atomic.Int64 // of the guest channel, since the VM was started
	metricsMu         sync.Mutex   // one writer of metrics.json at a time

	mu      sync.Mutex
	st      Status
	machine vmm.Machine
	channel *channel
	detach  func()        // ends this boot's network
	ready   chan struct{} // closed when the guest is ready; another one for each boot
	ending  ending
	asked   bool // to power off, so that a reboot is an end too
}

// ending is why we end the VM; the first reason counts.
type ending struct {
	reason string
	detail string
}

// open takes the lock, opens the console and listens; it starts nothing.
func open(order Order, drivers map[banger.VMM]vmm.Driver, log *slog.Logger) (_ *monitor, err error) {
	driver, ok := drivers[order.VMM]
	if !ok {
		return nil, fmt.Errorf("no driver for the VMM %q", order.VMM)
	}
	m := &monitor{order: order, driver: driver, log: log, done: make(chan struct{})}
	m.idle = releaseMemory()
	m.guest.ask = func(ctx context.Context) (wire.Stats, error) { return m.control(m.currentChannel()).Stats(ctx) }
	m.st = Status{MonitorPID: os.Getpid(), Stage: wire.StageKernel}
	if m.lock, err = lockFile(order.Files.Lock()); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = m.lock.Close()
		}
	}()
	if err := os.Remove(order.Files.Exit()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if m.console, err = newConsole(order.Files); err != nil {
		return nil, err
	}
	if m.vmmLog, err = newBoundedLog(order.Files.VMMLog()); err != nil {
		m.console.close()
		return nil, err
	}
	if err := m.newNetwork(); err != nil {
		m.closeLogs()
		return nil, err
	}
	m.leases = newLeases(order.LeaseTimeout, func() { m.end(ReasonKilled, "its client is gone") })
	if m.ports, err = newPorts(m); err != nil {
		m.closeLogs()
		return nil, err
	}
	if m.server, err = listen(m); err != nil {
		m.ports.Close()
		m.closeLogs()
		return nil, err
	}
	return m, nil
}

func (m *monitor) close() {
	close(m.done)
	m.server.close()
	m.ports.Close()
	m.closeLogs()
	_ = m.lock.Close()
}

func (m *monitor) closeLogs() {
	m.console.close()
	m.vmmLog.close()
}

// boot starts the VMM once and everything that watches it.
func (m *monitor) boot(ctx context.Context) (vmm.Machine, error) {
	cfg := m.order.Machine
	cfg.Console, cfg.Log, cfg.Hold = m.console, m.vmmLog, []*os.File{m.lock}
	m.console.reset()
	m.console.mark("boot %d of %s", m.st.Boots+1, m.order.Name)
	machine, err := m.startVMM(ctx, cfg)
	if err != nil {
		return nil, err
	}
	channeler, ok := machine.(vmm.Channeler)
	if !ok {
		_ = machine.Kill()
		return nil, fmt.Errorf("the VMM %s gives no channel to the guest", m.order.VMM)
	}
	detach, err := m.attach(machine)
	if err != nil {
		_ = machine.Kill()
		return nil, err
	}
	m.mu.Lock()
	m.machine, m.detach = machine, detach
	m.channel = newChannel(channeler.Channel(), m.log)
	m.st.VMM, m.st.Started, m.st.Boots = machine.Handle(), time.Now(), m.st.Boots+1
	m.st.Ready, m.st.Hello, m.st.Paused, m.st.Reason = false, nil, false, ""
	m.ready = make(chan struct{})
	ch, unwanted := m.channel, m.ending.reason != "" || m.asked
	m.mu.Unlock()
	m.server.changed()
	if unwanted { // asked to end while between two boots
		_ = machine.Kill()
	}
	go m.watch(machine, ch)
	return machine, nil
}

// startVMM gives a VMM as long to come up as the daemon waits for the first one.
func (m *monitor) startVMM(ctx context.Context, cfg vmm.Config) (vmm.Machine, error) {
	ctx, cancel := context.WithTimeout(ctx, spawnTimeout)
	defer cancel()
	return m.driver.Start(ctx, cfg)
}

// stay waits for the VM's end, starting the VMM again when the guest reboots,
// and writes exit.json.
func (m *monitor) stay(ctx context.Context, machine vmm.Machine) error {
	var reboots []time.Time
	for {
		gone := make(chan struct{})
		go m.boundBoot(m.readiness(), gone)
		exit, err := machine.Wait(context.WithoutCancel(ctx))
		close(gone)
		if err != nil {
			return err
		}
		m.currentChannel().end()
		m.detachNetwork()
		if m.rebooted(exit) {
			reboots = append(reboots[max(0, len(reboots)-maxReboots):], time.Now())
			if !tooMany(reboots) {
				if machine, err = m.boot(ctx); err == nil {
					continue
				}
				m.end(ReasonVMMFailed, fmt.Sprintf("the VMM could not be started again: %v", err))
			} else {
				m.end(ReasonRebootLimit, fmt.Sprintf("the guest rebooted %d times in a minute", maxReboots+1))
			}
		}
		m.writeMetrics(&exit.Time)
		return m.writeExit(m.conclude(exit))
	}
}

// boundBoot ends a boot that is not ready in time.
func (m *monitor) boundBoot(ready, gone <-chan struct{}) {
	deadline := time.NewTimer(m.order.BootTimeout)
	defer deadline.Stop()
	select {
	case <-ready:
	case <-gone:
	case <-deadline.C:
		m.end(ReasonBootFailed, fmt.Sprintf("the guest was not ready within %s", m.order.BootTimeout))
	}
}

// tooMany says whether the newest reboots are more than maxReboots in a window.
func tooMany(reboots []time.Time) bool {
	n := len(reboots)
	return n > maxReboots && reboots[n-1].Sub(reboots[n-1-maxReboots]) < rebootWindow
}

// rebooted says whether the guest asked to be started again.
func (m *monitor) rebooted(exit vmm.Exit) bool {
	_, fatal, panicked := m.console.seen()
	m.mu.Lock()
	defer m.mu.Unlock()
	return exit.Cause == vmm.CauseReset && m.st.Ready && m.ending.reason == "" && !m.asked && fatal == "" && panicked == ""
}

// conclude says how the run ended.
func (m *monitor) conclude(exit vmm.Exit) Exit {
	stage, fatal, panicked := m.console.seen()
	m.mu.Lock()
	ready, ending, asked := m.st.Ready, m.ending, m.asked
	m.mu.Unlock()
	out := Exit{
		LastExit: banger.LastExit{Time: exit.Time, Code: exit.Code, Signal: exit.Signal},
		Console:  m.console.last(),
	}
	if !ready {
		out.Stage = stage
	}
	switch {
	case panicked != "":
		out.Reason, out.Detail = ReasonPanic, "the guest's kernel panicked: "+panicked
	case !ready && fatal != "":
		out.Reason, out.Detail = ReasonBootFailed, fatal
	case ending.reason != "":
		out.Reason, out.Detail = ending.reason, ending.detail
	case exit.Cause == vmm.CauseFailed:
		out.Reason, out.Detail = ReasonVMMFailed, "the VMM ended by itself: "+exit.String()
	case asked:
		out.Reason, out.Detail = ReasonPoweroff, "the guest powered off"
	case !ready:
		out.Reason, out.Detail = ReasonBootFailed, "the guest ended before it was ready"
	case exit.Cause == vmm.CauseKilled:
		out.Reason, out.Detail = ReasonKilled, "killed"
	default:
		out.Reason, out.Detail = ReasonPoweroff, "the guest powered off"
	}
	return out
}

// end kills the VM for a reason; the first reason counts.
func (m *monitor) end(reason, detail string) {
	m.mu.Lock()
	if m.ending.reason == "" {
		m.ending = ending{reason, detail}
	}
	machine := m.machine
	m.mu.Unlock()
	if machine != nil {
		_ = machine.Kill()
	}
}

// watch follows one boot: the channel's openings and what the VMM reports.
func (m *monitor) watch(machine vmm.Machine, ch *channel) {
	for e := range machine.Events() {
		switch e.Type {
		case vmm.EventChannel:
			if e.Open {
				ch.opened(func() { m.greet(ch) })
			} else {
				ch.closed()
			}
		case vmm.EventPaused, vmm.EventResumed:
			m.mu.Lock()
			m.st.Paused, m.st.Reason = e.Type == vmm.EventPaused, e.Reason
			if m.st.Paused {
				m.st.Pauses++
			}
			m.mu.Unlock()
			m.server.changed()
		}
	}
}

// greet asks the agent who it is; its answer makes the guest ready. It may take
// as long as the boot may: a question that is given up is not put again, and the
// end of the session, or of the VM, is an answer too.
func (m *monitor) greet(ch *channel) {
	hello, err := m.control(ch).Hello(context.Background())
	if err != nil {
		m.log.Warn("the agent does not answer", "err", err)
		return
	}
	m.mu.Lock()
	if m.channel != ch || ch.isOver() { // the answer is of an earlier boot
		m.mu.Unlock()
		return
	}
	m.console.ready()
	if !m.st.Ready {
		close(m.ready)
	}
	m.st.Ready, m.st.Hello, m.st.Stage = true, &hello, ""
	m.mu.Unlock()
	m.leases.ready()
	m.sessions.Add(1)
	m.writeMetrics(nil)
	m.server.changed()
}

func (m *monitor) readiness() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ready
}

func (m *monitor) currentChannel() *channel {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.channel
}

func (m *monitor) currentMachine() vmm.Machine {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.machine
}

// status is a copy of what is known now.
func (m *monitor) status() Status {
	stage, _, _ := m.console.seen()
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.st
	if m.network != nil {
		stats := m.network.Stats()
		s.Network = &stats
	}
	if !s.Ready {
		s.Stage = stage
	}
	s.Phases = m.console.boot()
	return s
}

// shutdown asks the guest to power off and kills it when ctx ends first. On
// return the VMM is gone.
func (m *monitor) shutdown(ctx context.Context) (killed bool) {
	m.mu.Lock()
	m.asked = true
	machine, ch := m.machine, m.channel
	m.mu.Unlock()
	err := m.control(ch).Shutdown(ctx)
	if err != nil { // no agent to ask: the power button
		m.log.Info("the agent cannot be asked to power off", "err", err)
		err = machine.Shutdown(ctx)
	} else {
		_, err = machine.Wait(ctx)
	}
	if err == nil {
		return false
	}
	m.end(ReasonKilled, "the guest did not power off in time")
	return true
}

func (m *monitor) control(ch *channel) guest.Control {
	return guest.Control{Name: m.order.Name, Dial: func(ctx context.Context) (net.Conn, error) {
		return ch.open(ctx, wire.PortControl)
	}}
}

// writeExit leaves exit.json.
func (m *monitor) writeExit(exit Exit) error {
	m.log.Info("the VM has ended", "reason", exit.Reason, "detail", exit.Detail)
	return writeJSON(m.order.Files.Exit(), exit)
}

// writeJSON replaces a file of the VM's.
func writeJSON(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return replace.File(path, append(b, '\n'), 0o600)
}

// ReadExit reads how the last run of a VM ended.
func ReadExit(path string) (Exit, error) {
	var e Exit
	b, err := os.ReadFile(path)
	if err != nil {
		return e, err
	}
	return e, json.Unmarshal(b, &e)
}
