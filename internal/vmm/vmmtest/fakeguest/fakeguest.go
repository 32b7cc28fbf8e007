// Package fakeguest is a guest for the machines of vmmtest.Fake: it boots, and
// speaks the agent's protocol as far as a monitor can tell. It is for tests.
package fakeguest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/yamux"

	"banger.dev/banger/internal/agent/dial"
	"banger.dev/banger/internal/agent/wire"
	"banger.dev/banger/internal/vmm"
	"banger.dev/banger/internal/vmm/vmmtest"
)

// Word begins the word of the kernel command line that says how the guest
// behaves: "" as it should, or as one of the words below.
const Word = "test.guest="

// hostname begins the word of the command line with the VM's name. One that is
// a word below, or begins with one and a hyphen, says the same as Word.
const hostname = "systemd.hostname="

// How a guest behaves.
const (
	Fatal   = "fatal"   // gives up in its boot and says why
	Silent  = "silent"  // ends in its boot without a word
	Stuck   = "stuck"   // never gets ready
	Panics  = "panics"  // its kernel panics in the boot
	Ignores = "ignores" // does not power off when asked
	Reboots = "reboots" // reboots when it is asked to power off
	Old     = "old"     // its agent has no dial port, cannot say what time it is and grows nothing
	Full    = "full"    // the host's disk is full when it is ready
)

// Ports of the guest beside the agent's.
const (
	PortCommand = 7 // takes one line: what the guest is to do
	PortEcho    = 8
)

// agent is a guest with an agent as far as the monitor can tell.
type agent struct {
	g    *vmmtest.Guest
	word string
	end  chan vmm.Cause
	once sync.Once

	mu      sync.Mutex
	port    io.Closer // of the present session
	stopped bool      // there will be no other
	right   bool      // its clock has been set
}

// behaviour is what a kernel command line says of it.
func behaviour(cmdline string) string {
	for w := range strings.FieldsSeq(cmdline) {
		if value, ok := strings.CutPrefix(w, Word); ok {
			return value
		}
		if value, ok := strings.CutPrefix(w, hostname); ok {
			switch value, _, _ = strings.Cut(value, "-"); value {
			case Fatal, Silent, Stuck, Panics, Ignores, Reboots, Old, Full:
				return value
			}
		}
	}
	return ""
}

// Play is a guest, for vmmtest.Fake.
func Play(ctx context.Context, g *vmmtest.Guest) vmm.Cause {
	word := behaviour(g.Config.Cmdline)
	a := &agent{g: g, word: word, end: make(chan vmm.Cause, 1)}
	var running sync.WaitGroup
	defer running.Wait()
	defer a.stop()
	running.Go(a.boot)
	button := g.Button
	if word == Ignores || word == Stuck {
		button = nil
	}
	select {
	case cause := <-a.end:
		return cause
	case <-button:
		return vmm.CausePoweroff
	case <-ctx.Done():
		return vmm.CauseFailed
	}
}

func (a *agent) printf(format string, args ...any) {
	_, _ = fmt.Fprintf(a.g.Console(), format, args...)
}

func (a *agent) ends(cause vmm.Cause) { a.once.Do(func() { a.end <- cause }) }

func (a *agent) panics() {
	a.printf("[    1.234567] Kernel panic - not syncing: test of a panic\r\n[    1.3] ---[ end Kernel panic ]---\r\n")
	a.ends(vmm.CauseReset)
}

func (a *agent) boot() {
	a.printf("%s%s\r\n", wire.StagePrefix, wire.StageModules)
	a.printf("%s%s\r\n", wire.StagePrefix, wire.StageRoot)
	switch a.word {
	case Fatal:
		a.printf("%sthe root disk has no file system\r\n", wire.FatalPrefix)
		a.ends(vmm.CauseReset)
		return
	case Silent:
		a.ends(vmm.CausePoweroff)
		return
	case Panics:
		a.panics()
		return
	case Stuck:
		return
	}
	a.printf("%s%s\r\n", wire.StagePrefix, wire.StagePorts)
	for {
		port, err := a.open()
		if err != nil {
			return
		}
		if err := a.serve(port); err != nil {
			a.printf("agent: %v\r\n", err)
		}
	}
}

func (a *agent) open() (io.ReadWriteCloser, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stopped {
		return nil, io.EOF
	}
	port, err := a.g.OpenPort()
	a.port = port
	return port, err
}

// restart breaks the session off, as an agent does that dies.
func (a *agent) restart() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.port != nil {
		_ = a.port.Close()
	}
}

func (a *agent) stop() {
	a.mu.Lock()
	a.stopped = true
	a.mu.Unlock()
	a.restart()
}

// Serve is one session of an agent over an opened port, until that is closed.
func Serve(port io.ReadWriteCloser) error { return (&agent{}).serve(port) }

// serve is one session over one opening of the port.
func (a *agent) serve(port io.ReadWriteCloser) error {
	defer func() { _ = port.Close() }()
	if err := wire.SyncGuest(port); err != nil {
		return err
	}
	session, err := yamux.Server(wire.Coalesce(port), wire.YamuxConfig())
	if err != nil {
		return err
	}
	defer func() { _ = session.Close() }()
	var streams sync.WaitGroup
	defer streams.Wait()
	for {
		stream, err := session.Accept()
		if err != nil {
			return err
		}
		streams.Go(func() {
			defer func() { _ = stream.Close() }()
			a.stream(stream)
		})
	}
}

func (a *agent) stream(stream net.Conn) {
	port, err := wire.ReadPort(stream)
	if err != nil {
		return
	}
	switch port {
	case wire.PortControl:
		a.control(stream)
	case wire.PortDial:
		(&dial.Server{}).Serve(stream)
	case PortEcho:
		_, _ = io.Copy(stream, stream)
	case PortCommand:
		line, _ := bufio.NewReader(stream).ReadString('\n')
		a.command(strings.TrimSpace(line))
	}
}

func (a *agent) command(line string) {
	switch line {
	case "poweroff":
		a.ends(vmm.CausePoweroff)
	case "reset":
		a.ends(vmm.CauseReset)
	case "panic":
		a.panics()
	case "die":
		a.ends(vmm.CauseFailed)
	case "restart":
		a.restart()
	}
}

// control answers one request of the control port.
func (a *agent) control(stream net.Conn) {
	r, err := http.ReadRequest(bufio.NewReader(stream))
	if err != nil {
		return
	}
	switch r.URL.Path {
	case wire.PathHello:
		answer(stream, wire.Hello{Ports: a.ports(), Protocol: wire.Version, Generation: 1, Version: "test", Init: "none"})
		if a.word == Full {
			a.g.Pause("No space left on device")
		}
	case wire.PathInit:
		answer(stream, wire.InitStatus{State: "none", Done: true})
	case wire.PathClock:
		a.clock(stream, r)
	case wire.PathGrow:
		if a.word == Old {
			unknown(stream)
			return
		}
		answer(stream, struct{}{})
	case wire.PathStats:
		if a.word == Old {
			unknown(stream)
			return
		}
		answer(stream, wire.Stats{MemoryTotal: 1 << 20, MemoryAvailable: 1 << 19, Processes: 3})
	case wire.PathShutdown:
		answer(stream, struct{}{})
		switch a.word {
		case Ignores:
			a.printf("it is asked to power off, and does not\r\n")
		case Reboots:
			a.ends(vmm.CauseReset)
		default:
			a.ends(vmm.CausePoweroff)
		}
	}
}

// clock is an hour ahead until it is set.
func (a *agent) clock(stream net.Conn, r *http.Request) {
	if r.Method == http.MethodPost {
		a.mu.Lock()
		a.right = true
		a.mu.Unlock()
		answer(stream, struct{}{})
		return
	}
	a.mu.Lock()
	now := time.Now()
	if !a.right {
		now = now.Add(time.Hour)
	}
	a.mu.Unlock()
	if a.word == Old {
		unknown(stream)
		return
	}
	answer(stream, wire.Clock{UnixNano: now.UnixNano()})
}

// unknown is what an agent says to a question that is newer than it.
func unknown(stream net.Conn) {
	_, _ = io.WriteString(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
	_, _ = io.Copy(io.Discard, stream)
}

// answer returns when the host has read it.
func answer(stream net.Conn, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		return
	}
	_, _ = fmt.Fprintf(stream, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	_, _ = io.Copy(io.Discard, stream)
}

func (a *agent) ports() []uint32 {
	if a.word == Old {
		return nil
	}
	return []uint32{wire.PortControl, wire.PortDial}
}
