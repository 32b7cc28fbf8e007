package vmmtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/vmm"
)

// eventBuffer is how many events wait for the reader; more are dropped.
const eventBuffer = 64

// machine is one process of the fake.
type machine struct {
	cmd     *exec.Cmd
	stdin   io.Closer // its end makes the process exit
	handle  vmm.Handle
	channel *os.File
	network *os.File // nil without a network card
	disks   []vmm.Disk
	button  chan struct{}
	done    chan struct{} // closed when the process is gone and exit is set

	emitting sync.Mutex // guards events against being closed; taken after mu
	events   chan vmm.Event
	silent   bool // events is closed

	mu     sync.Mutex
	ours   bool          // we ended it
	said   vmm.Cause     // how the guest ended
	paused chan struct{} // closed when it goes on; nil while it runs
	exit   vmm.Exit
}

func newMachine(cmd *exec.Cmd, stdin io.Closer, channel, network *os.File, handle vmm.Handle) *machine {
	return &machine{
		cmd: cmd, stdin: stdin, channel: channel, network: network, handle: handle,
		button: make(chan struct{}, 1), events: make(chan vmm.Event, eventBuffer), done: make(chan struct{}),
	}
}

// run plays the guest and waits for the process, each in a goroutine.
func (m *machine) run(guest func(context.Context, *Guest) vmm.Cause, g *Guest) {
	ctx, cancel := context.WithCancel(context.Background())
	g.ctx = ctx
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		cause := guest(ctx, g)
		m.mu.Lock()
		m.said = cause
		m.mu.Unlock()
		if cause == vmm.CauseFailed {
			_ = m.cmd.Process.Kill()
		} else {
			_ = m.stdin.Close()
		}
	}()
	go func() {
		err := m.cmd.Wait()
		cancel()
		_ = g.file.SetDeadline(time.Now()) // ends what the guest reads and writes
		if g.card != nil {
			_ = g.card.SetDeadline(time.Now())
		}
		<-ended
		g.settle()
		m.conclude(err)
		_ = g.file.Close()
		_ = m.channel.Close()
		if m.network != nil {
			_ = g.card.Close()
			_ = m.network.Close()
		}
		m.emitting.Lock()
		m.silent = true
		close(m.events)
		m.emitting.Unlock()
		close(m.done)
	}()
}

func (m *machine) conclude(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.exit = vmm.Exit{Time: time.Now(), Code: m.cmd.ProcessState.ExitCode(), Cause: vmm.CauseFailed}
	if ws, ok := m.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		m.exit.Signal = ws.Signal().String()
	}
	switch {
	case m.ours:
		m.exit.Cause = vmm.CauseKilled
	case err == nil:
		m.exit.Cause = m.said
	}
}

func (m *machine) emit(e vmm.Event) {
	m.emitting.Lock()
	defer m.emitting.Unlock()
	if m.silent {
		return
	}
	select {
	case m.events <- e:
	default:
	}
}

func (m *machine) Handle() vmm.Handle       { return m.handle }
func (m *machine) Events() <-chan vmm.Event { return m.events }
func (m *machine) Channel() vmm.Stream      { return m.channel }

// Network implements vmm.Networker.
func (m *machine) Network() vmm.Stream {
	if m.network == nil {
		return nil
	}
	return m.network
}

func (m *machine) dead() bool {
	select {
	case <-m.done:
		return true
	default:
		return false
	}
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

func (m *machine) Shutdown(ctx context.Context) error {
	select {
	case m.button <- struct{}{}:
	default: // pressed already
	}
	_, err := m.Wait(ctx)
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

func (m *machine) Pause(context.Context) error {
	m.pause("")
	return nil
}

func (m *machine) pause(reason string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.paused == nil {
		m.paused = make(chan struct{})
		m.emit(vmm.Event{Type: vmm.EventPaused, Reason: reason})
	}
}

func (m *machine) Resume(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.paused != nil {
		close(m.paused)
		m.paused = nil
		m.emit(vmm.Event{Type: vmm.EventResumed})
	}
	return nil
}

// Grow implements vmm.Grower: of a raw disk the file grows, of another kind
// nothing is done that could be seen from outside.
func (m *machine) Grow(_ context.Context, disk int, size banger.Bytes) error {
	switch {
	case m.dead():
		return errors.New("the machine has ended")
	case disk < 0 || disk >= len(m.disks):
		return fmt.Errorf("there is no disk %d", disk)
	case m.disks[disk].ReadOnly:
		return fmt.Errorf("disk %d is read-only", disk)
	case m.disks[disk].Format != "raw":
		return nil
	}
	info, err := os.Stat(m.disks[disk].Path)
	if err != nil || info.Size() >= int64(size) {
		return err
	}
	return os.Truncate(m.disks[disk].Path, int64(size))
}

// running returns when the machine is not paused, or ctx has ended.
func (m *machine) running(ctx context.Context) {
	for {
		m.mu.Lock()
		paused := m.paused
		m.mu.Unlock()
		if paused == nil {
			return
		}
		select {
		case <-paused:
		case <-ctx.Done():
			return
		}
	}
}
