package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"banger.dev/banger/internal/vmm"
)

// machine is one running QEMU.
type machine struct {
	cmd     *exec.Cmd
	handle  vmm.Handle
	streams parentStreams
	qmp     *qmp
	events  chan vmm.Event
	done    chan struct{} // closed when the process is gone and exit is set

	mu        sync.Mutex
	ours      bool   // we ended it
	shutdown  string // reason of QEMU's SHUTDOWN event
	exit      vmm.Exit
	ioReason  string // of the last BLOCK_IO_ERROR
	collected sync.WaitGroup
}

// eventBuffer is how many events wait for the reader; more are dropped.
const eventBuffer = 64

func newMachine(cmd *exec.Cmd, streams parentStreams, console io.Writer) *machine {
	m := &machine{
		cmd: cmd, handle: handleOf(cmd.Process), streams: streams,
		events: make(chan vmm.Event, eventBuffer), done: make(chan struct{}),
	}
	m.qmp = newQMP(streams.qmp, m.onEvent)
	m.collected.Go(func() {
		if console == nil {
			console = io.Discard
		}
		_, _ = io.Copy(console, streams.console)
	})
	go m.collect()
	return m
}

// collect waits for the process and says how it ended, after QEMU's last events
// and console output have been read.
func (m *machine) collect() {
	err := m.cmd.Wait()
	<-m.qmp.closed
	m.collected.Wait()
	m.mu.Lock()
	m.exit = m.exitLocked(err)
	m.mu.Unlock()
	m.streams.close()
	close(m.events)
	close(m.done)
}

func (m *machine) exitLocked(err error) vmm.Exit {
	exit := vmm.Exit{Time: time.Now(), Cause: vmm.CauseFailed}
	if state := m.cmd.ProcessState; state != nil {
		exit.Code = state.ExitCode()
		if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			exit.Signal = ws.Signal().String()
		}
	}
	switch {
	case m.ours:
		exit.Cause = vmm.CauseKilled
	case err != nil:
	case m.shutdown == "guest-shutdown":
		exit.Cause = vmm.CausePoweroff
	case m.shutdown == "guest-reset" || m.shutdown == "guest-panic":
		exit.Cause = vmm.CauseReset
	}
	return exit
}

// onEvent translates QEMU's events; see qapi/run-state.json, char.json and
// block-core.json in its sources.
func (m *machine) onEvent(e qmpEvent) {
	var data struct {
		Reason string `json:"reason"`
		ID     string `json:"id"`
		Open   bool   `json:"open"`
	}
	if len(e.Data) > 0 && json.Unmarshal(e.Data, &data) != nil {
		return
	}
	switch e.Name {
	case "SHUTDOWN":
		m.mu.Lock()
		m.shutdown = data.Reason
		m.mu.Unlock()
	case "BLOCK_IO_ERROR":
		m.mu.Lock()
		m.ioReason = data.Reason
		m.mu.Unlock()
	case "STOP":
		m.mu.Lock()
		reason := m.ioReason
		m.ioReason = ""
		m.mu.Unlock()
		m.emit(vmm.Event{Type: vmm.EventPaused, Reason: reason})
	case "RESUME":
		m.emit(vmm.Event{Type: vmm.EventResumed})
	case "VSERPORT_CHANGE":
		m.emit(vmm.Event{Type: vmm.EventChannel, Open: data.Open})
	}
}

func (m *machine) emit(e vmm.Event) {
	select {
	case m.events <- e:
	default:
	}
}

func (m *machine) Handle() vmm.Handle       { return m.handle }
func (m *machine) Events() <-chan vmm.Event { return m.events }
func (m *machine) Channel() vmm.Stream      { return m.streams.channel }

// Network implements vmm.Networker.
func (m *machine) Network() vmm.Stream {
	if m.streams.network == nil {
		return nil
	}
	return m.streams.network
}

func (m *machine) Wait(ctx context.Context) (vmm.Exit, error) {
	if !m.dead() {
		select {
		case <-m.done:
		case <-ctx.Done():
			return vmm.Exit{}, ctx.Err()
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.exit, nil
}

func (m *machine) dead() bool {
	select {
	case <-m.done:
		return true
	default:
		return false
	}
}

// Shutdown presses the power button; a guest without acpid ignores it.
func (m *machine) Shutdown(ctx context.Context) error {
	if m.dead() {
		return nil
	}
	err := m.qmp.execute(ctx, "system_powerdown")
	switch {
	case ctx.Err() != nil && !m.dead():
		return ctx.Err()
	case err != nil && !errors.Is(err, errQMPClosed): // a closed one belongs to a QEMU that ends already
		return err
	}
	_, err = m.Wait(ctx)
	return err
}

func (m *machine) Kill() error {
	m.mu.Lock()
	if !m.dead() {
		m.ours = true
	}
	m.mu.Unlock()
	_ = m.cmd.Process.Kill() // fails only when it is gone
	<-m.done
	return nil
}

func (m *machine) Pause(ctx context.Context) error  { return m.qmp.execute(ctx, "stop") }
func (m *machine) Resume(ctx context.Context) error { return m.qmp.execute(ctx, "cont") }
