package vmmtest

import (
	"context"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"banger.dev/banger/internal/vmm"
	"banger.dev/banger/internal/vmm/vmmtest/testguest"
)

// Guest is what the guest of a fake machine can do. Its methods may be called
// from any goroutine.
type Guest struct {
	Config vmm.Config // as given to Start
	// Button has a value when somebody presses the power button.
	Button <-chan struct{}

	m    *machine
	file *os.File
	card *os.File // nil without a network card
	ctx  context.Context

	mu sync.Mutex // guards the console: it is written to by one goroutine at a time
}

func newGuest(m *machine, cfg vmm.Config, file, card *os.File) *Guest {
	return &Guest{Config: cfg, Button: m.button, m: m, file: file, card: card}
}

// Console writes to the serial console; after the machine's end nothing.
func (g *Guest) Console() io.Writer { return consoleWriter{g} }

// Log writes what the VMM itself says.
func (g *Guest) Log() io.Writer {
	if g.Config.Log == nil {
		return io.Discard
	}
	return g.Config.Log
}

// Pause stops the machine as a VMM does that meets an error: nobody asked.
func (g *Guest) Pause(reason string) { g.m.pause(reason) }

// OpenPort opens the guest's end of the channel. What is in it stays in it, so
// that a session may find leftovers of an older one, as on a real port. It is
// open once at a time.
func (g *Guest) OpenPort() (io.ReadWriteCloser, error) {
	if err := g.ctx.Err(); err != nil {
		return nil, err
	}
	if err := g.file.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	if g.ctx.Err() != nil { // the machine has ended meanwhile, and its deadline must stay
		_ = g.file.SetDeadline(time.Now())
	}
	g.m.emit(vmm.Event{Type: vmm.EventChannel, Open: true})
	return &port{g: g}, nil
}

// Card is the guest's end of its network, as the monitor has the other: frames
// after their lengths. It is nil without a network card.
func (g *Guest) Card() vmm.Stream {
	if g.card == nil {
		return nil
	}
	return g.card
}

// Call implements testguest.Machine: what is there to ask is the network card.
func (g *Guest) Call(words []string) string {
	switch {
	case g.card == nil:
	case len(words) == 1 && words[0] == testguest.Listen:
		return "ok"
	case len(words) == 2 && words[0] == testguest.Frames:
		n, err := strconv.Atoi(words[1])
		if err = errors.Join(err, testguest.Reflect(g.card, n)); err != nil {
			return err.Error()
		}
		return "ok"
	}
	return "unknown: " + strings.Join(words, " ")
}

// settle returns when nothing is being written to the console any more, nor will be.
func (g *Guest) settle() {
	g.mu.Lock()
	defer g.mu.Unlock()
}

type consoleWriter struct{ g *Guest }

func (w consoleWriter) Write(p []byte) (int, error) {
	w.g.mu.Lock()
	defer w.g.mu.Unlock()
	if w.g.ctx.Err() == nil && w.g.Config.Console != nil {
		_, _ = w.g.Config.Console.Write(p)
	}
	return len(p), nil
}

// port is one opening of the channel. A paused guest moves no bytes.
type port struct {
	g      *Guest
	closed atomic.Bool
}

func (p *port) Read(b []byte) (int, error) {
	if p.closed.Load() {
		return 0, os.ErrClosed
	}
	n, err := p.g.file.Read(b)
	p.g.m.running(p.g.ctx)
	return n, err
}

func (p *port) Write(b []byte) (int, error) {
	if p.closed.Load() {
		return 0, os.ErrClosed
	}
	p.g.m.running(p.g.ctx)
	return p.g.file.Write(b)
}

func (p *port) Close() error {
	if p.closed.Swap(true) {
		return nil
	}
	err := p.g.file.SetDeadline(time.Now()) // ends a read that is under way
	p.g.m.emit(vmm.Event{Type: vmm.EventChannel})
	return err
}

// Script plays package testguest's guest: it does what the kernel command line
// says, and powers off at the press of the button unless it hangs.
func Script(ctx context.Context, g *Guest) vmm.Cause {
	done := make(chan testguest.How, 1)
	go func() { done <- testguest.Run(ctx, g, g.Config.Cmdline) }()
	button := g.Button
	if testguest.Wanted(g.Config.Cmdline) == testguest.Hang {
		button = nil
	}
	for {
		select {
		case how := <-done:
			switch how {
			case testguest.Poweroff:
				return vmm.CausePoweroff
			case testguest.Panic:
				_, _ = io.WriteString(g.Console(), "[    1.000000] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100\n")
				return vmm.CauseReset
			case testguest.Reset:
				return vmm.CauseReset
			case testguest.Serve, testguest.Hang:
			}
			button = nil
			done = nil
		case <-button:
			return vmm.CausePoweroff
		case <-ctx.Done():
			return vmm.CauseFailed
		}
	}
}
