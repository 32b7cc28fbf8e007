// Package qemu runs machines with QEMU: under KVM where the host has it, else
// by emulation (TCG). The whole machine is on the command line; QMP is used to
// ask for power-off and pause and to hear of events. It knows nothing of VMs,
// images or the guest's agent.
package qemu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"

	"banger.dev/banger"
	"banger.dev/banger/internal/proc"
	"banger.dev/banger/internal/vmm"

	"golang.org/x/sys/unix"
)

// Driver implements vmm.Driver. The zero value is ready.
type Driver struct{}

// Features implements vmm.Driver.
func (Driver) Features() vmm.Features {
	return vmm.Features{Name: banger.VMMQEMU, Pause: true, Grow: true}
}

// Start implements vmm.Driver.
func (Driver) Start(ctx context.Context, cfg vmm.Config) (_ vmm.Machine, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var child descriptors
	defer child.closeAll()
	streams, socks, err := openStreams(&child, cfg.NIC != nil)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			streams.close()
		}
	}()
	argv, err := args(cfg, socks, &child)
	if err != nil {
		return nil, err
	}
	for _, f := range cfg.Hold {
		dup, err := dupFile(f)
		if err != nil {
			return nil, err
		}
		child.add(dup)
	}
	complaint := &tail{program: filepath.Base(cfg.Binary), to: cfg.Log}
	cmd := exec.Command(cfg.Binary, argv...)
	cmd.ExtraFiles = child.files
	cmd.Stdout, cmd.Stderr = complaint, complaint
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C"}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if cfg.RunAs != nil {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: cfg.RunAs.UID, Gid: cfg.RunAs.GID}
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", cfg.Binary, err)
	}
	child.closeAll() // QEMU has its own copies; with ours open its end would not show
	m := newMachine(cmd, streams, cfg.Console)
	if err := m.qmp.handshake(ctx); err != nil {
		_ = m.Kill()
		if text := complaint.String(); text != "" {
			return nil, fmt.Errorf("QEMU did not start: %s", text)
		}
		return nil, fmt.Errorf("QEMU did not start: %w", err)
	}
	return m, nil
}

// parentStreams are our ends of the machine's byte streams.
type parentStreams struct {
	qmp, console, channel *os.File
	network               *os.File // nil without a network card
}

func (s parentStreams) close() {
	for _, f := range []*os.File{s.qmp, s.console, s.channel, s.network} {
		if f != nil {
			_ = f.Close()
		}
	}
}

// networkBuffer is how much each way of the network's pair holds, if the host
// allows it: some frames, so that neither side waits for the other at each.
const networkBuffer = 1 << 20

// openStreams makes the socket pairs. Pairs rather than sockets on disk:
// nobody else can connect, and nothing is left behind.
func openStreams(child *descriptors, network bool) (parent parentStreams, socks sockets, err error) {
	for _, s := range []struct {
		name   string
		wanted bool
		ours   **os.File
		fd     *int
	}{
		{"qmp", true, &parent.qmp, &socks.qmp},
		{"console", true, &parent.console, &socks.console},
		{"channel", true, &parent.channel, &socks.channel},
		{"network", network, &parent.network, &socks.network},
	} {
		if !s.wanted {
			continue
		}
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			parent.close()
			return parentStreams{}, sockets{}, fmt.Errorf("%s channel: %w", s.name, err)
		}
		// Non-blocking makes it a pollable file, so that Close ends a Read.
		_ = unix.SetNonblock(pair[0], true)
		if s.ours == &parent.network {
			for _, fd := range pair {
				_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, networkBuffer)
			}
		}
		*s.ours = os.NewFile(uintptr(pair[0]), s.name)
		*s.fd = child.add(os.NewFile(uintptr(pair[1]), s.name))
	}
	return parent, socks, nil
}

func dupFile(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("duplicate %s: %w", f.Name(), err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// tailSize is how much of QEMU's complaints an error repeats.
const tailSize = 2048

// tail keeps the end of what is written to it and passes everything on.
type tail struct {
	program string // begins each line that is a complaint
	to      io.Writer

	mu  sync.Mutex
	buf []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - tailSize; over > 0 {
		t.buf = t.buf[over:]
	}
	t.mu.Unlock()
	if t.to != nil {
		_, _ = t.to.Write(p) // a full log must not stop the machine
	}
	return len(p), nil
}

// String is QEMU's last complaint. It prints warnings of harmless things before,
// and hints behind.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	last, complaint := "", ""
	for line := range bytes.Lines(t.buf) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || bytes.Contains(line, []byte("warning:")) {
			continue
		}
		last = string(line)
		if said, ok := bytes.CutPrefix(line, []byte(t.program+": ")); ok {
			complaint = string(said)
		}
	}
	if complaint == "" {
		return last
	}
	return complaint
}

// handleOf identifies a process that has just been started.
func handleOf(p *os.Process) vmm.Handle {
	start, err := proc.StartTime(p.Pid)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		start = 0
	}
	return vmm.Handle{PID: p.Pid, Start: start}
}
