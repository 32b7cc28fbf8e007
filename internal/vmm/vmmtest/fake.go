// Package vmmtest is the suite that every vmm.Driver passes, and a driver whose
// machines are real processes without a virtual machine in them. It is for
// tests alone.
package vmmtest

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"

	"banger.dev/banger"
	"banger.dev/banger/internal/proc"
	"banger.dev/banger/internal/vmm"
)

// NameFake is the fake's name among the VMMs.
const NameFake banger.VMM = "fake"

// RefusedMachine is a machine type that the fake's process starts with and then
// refuses, as a VMM does that finds its arguments wrong.
const RefusedMachine = "no-such-machine"

// Fake is a vmm.Driver. A machine of it is a process of the program
// Config.Binary, which must be one that ends with code 0 when its standard input
// does, such as cat; and a goroutine that plays the guest. The process is as
// real as any VMM: it has a pid, holds the descriptors of Config.Hold, and dies
// with its parent.
type Fake struct {
	// Guest plays the guest of one machine and returns how it ends: powered off,
	// reset, or failed, which is the VMM's own death by SIGKILL. It must return
	// soon after ctx ends, which is when the process is gone. nil is Script.
	Guest func(ctx context.Context, g *Guest) vmm.Cause
}

// Features implements vmm.Driver.
func (Fake) Features() vmm.Features { return vmm.Features{Name: NameFake, Pause: true, Grow: true} }

// Start implements vmm.Driver.
func (f Fake) Start(ctx context.Context, cfg vmm.Config) (vmm.Machine, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := readable(cfg); err != nil {
		return nil, err
	}
	host, guest, err := socketPair()
	if err != nil {
		return nil, err
	}
	var network, card *os.File
	if cfg.NIC != nil {
		if network, card, err = socketPair(); err != nil {
			_ = host.Close()
			_ = guest.Close()
			return nil, err
		}
	}
	m, err := f.start(cfg, host, network)
	if err != nil {
		for _, f := range []*os.File{host, guest, network, card} {
			if f != nil {
				_ = f.Close()
			}
		}
		return nil, err
	}
	m.run(f.guest(), newGuest(m, cfg, guest, card))
	return m, nil
}

func (f Fake) start(cfg vmm.Config, host, network *os.File) (*machine, error) {
	cmd := exec.Command(cfg.Binary)
	cmd.ExtraFiles = cfg.Hold
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", cfg.Binary, err)
	}
	if cfg.Machine == RefusedMachine {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return nil, fmt.Errorf("the fake has no machine %q", cfg.Machine)
	}
	start, err := proc.StartTime(cmd.Process.Pid)
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return nil, err
	}
	m := newMachine(cmd, stdin, host, network, vmm.Handle{PID: cmd.Process.Pid, Start: start})
	m.disks = cfg.Disks
	return m, nil
}

func (f Fake) guest() func(context.Context, *Guest) vmm.Cause {
	if f.Guest == nil {
		return Script
	}
	return f.Guest
}

// readable opens every file of cfg once, as a real VMM would.
func readable(cfg vmm.Config) error {
	names := []string{cfg.Kernel, cfg.Initramfs}
	for _, d := range cfg.Disks {
		names = append(names, d.Path)
		if d.Backing != "" {
			names = append(names, d.Backing)
		}
	}
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		_ = f.Close()
	}
	return nil
}

// socketPair makes a stream: two files whose reads and writes can be interrupted.
func socketPair() (host, guest *os.File, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("channel: %w", err)
	}
	return os.NewFile(uintptr(pair[0]), "channel"), os.NewFile(uintptr(pair[1]), "port"), nil
}

var _ io.ReadWriteCloser = (*port)(nil)
