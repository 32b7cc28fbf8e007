package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"banger.dev/banger/internal/doctor"
)

// What the network's comparison moves.
const (
	netVM       = "bench-net"
	netBytes    = 128 << 20
	netTrips    = 500
	netConnects = 50
	netIdle     = 1000 // connections
	netServer   = "192.0.2.1"
)

// network compares banger's user network with QEMU's own, in two guests that are
// the same but for -netdev. A guest has no way to its host's loopback, so the
// servers are in a network namespace beside the one that both VMs live in, which
// takes root.
func (b *bench) network(ctx context.Context) (err error) {
	if os.Getuid() != 0 {
		fmt.Fprintln(os.Stderr, "bench: network skipped: needs root, for a network namespace of its own")
		return nil
	}
	o, err := b.newOutside()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.close()) }()
	ours, err := b.newNetGuest(ctx, o, "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ours.close()) }()
	qemus, err := b.newNetGuest(ctx, o, qemuNet)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, qemus.close()) }()

	tests := []struct {
		name, verb, address, unit string
		n                         int
		bound                     float64
	}{
		{"request and answer, guest to host / QEMU's user network", "rtt", o.echo, "ms", netTrips, 1},
		{"connect / QEMU's user network", "connect", o.echo, "ms", netConnects, 1},
		{"128 MiB from guest to host / QEMU's user network", "up", o.sink, "MB/s", netBytes, 1},
		{"128 MiB from host to guest / QEMU's user network", "down", o.source, "MB/s", netBytes, 1},
	}
	figures, floors := make([][]float64, len(tests)), make([][]float64, len(tests))
	for range b.rounds {
		for i, test := range tests {
			for _, m := range []struct {
				guest *netGuest
				into  *[]float64
			}{{ours, &figures[i]}, {qemus, &floors[i]}} {
				s, err := m.guest.measure(ctx, test.verb, test.address, test.n)
				if err != nil {
					return err
				}
				value := s * 1e3
				if test.unit == "MB/s" {
					value = float64(test.n) / 1e6 / s
				}
				*m.into = append(*m.into, value)
			}
		}
	}
	for i, test := range tests {
		b.report.compare(test.name, test.unit, median(figures[i]), median(floors[i]), test.bound, test.unit == "ms")
	}
	return ours.idle(ctx, o, &b.report)
}

// netGuest is a running VM of a banger of its own in the outside's namespace.
type netGuest struct{ *bench }

// qemuNet is a QEMU whose -netdev is its own user network whatever it was asked
// for; all else is as banger asks. It is mounted over the real one where only
// this banger sees it.
const qemuNet = `#!/bin/sh
for word; do
	shift
	case $word in stream,id=net0,*) word=user,id=net0 ;; esac
	set -- "$@" "$word"
done
exec /mnt/bin/qemu "$@"
`

// enterQEMUNet runs a command where QEMU is the script: PATH-OF-QEMU SCRIPT COMMAND...
// QEMU finds its firmware and modules beside the directory that it is in.
const enterQEMUNet = `set -e
mount -t tmpfs -o mode=755 none /mnt
mkdir /mnt/bin
ln -s /usr/share /usr/lib /mnt
touch /mnt/bin/qemu
mount --bind "$1" /mnt/bin/qemu
mount --bind "$2" "$1"
shift 2
exec "$@"`

func (b *bench) newNetGuest(ctx context.Context, o *outside, qemu string) (*netGuest, error) {
	home, err := os.MkdirTemp("", "bng-")
	if err != nil {
		return nil, err
	}
	other := *b
	other.home = home
	other.enter = []string{"ip", "netns", "exec", o.inner}
	if qemu != "" {
		binary, err := doctor.QEMU()
		if err != nil {
			return nil, err
		}
		script := filepath.Join(home, "qemu")
		if err := os.WriteFile(script, []byte(qemu), 0o755); err != nil {
			return nil, err
		}
		other.enter = append(other.enter, "sh", "-c", enterQEMUNet, "sh", binary, script)
	}
	g := &netGuest{&other}
	if err := g.start(ctx); err != nil {
		return nil, errors.Join(err, g.close())
	}
	return g, nil
}

func (g *netGuest) start(ctx context.Context) error {
	program := filepath.Join(g.home, "netguest")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, "./bench/netguest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the guest's program: %w: %s", err, out)
	}
	if out, err := g.banger(ctx, "vm", "run", "--detach", "--name", netVM, "--init", "none").CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	f, err := os.Open(program)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	cmd := g.banger(ctx, "exec", netVM, "--", "sh", "-c", "cat > /usr/bin/netguest && chmod 755 /usr/bin/netguest")
	cmd.Stdin = f
	return cmd.Run()
}

// measure runs one test in the guest, and gives the seconds it says.
func (g *netGuest) measure(ctx context.Context, verb, address string, n int) (float64, error) {
	cmd := g.banger(ctx, "exec", netVM, "--", "netguest", verb, address, strconv.Itoa(n))
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("netguest %s: %w: %s", verb, err, complaints.String())
	}
	return strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
}

// netSettle is how long the monitor has to give back what it does not need.
const netSettle = 10 * time.Second

// idle measures what connections at rest take of the monitor.
func (g *netGuest) idle(ctx context.Context, o *outside, r *Report) error {
	d, err := g.show(ctx, netVM)
	if err != nil {
		return err
	}
	time.Sleep(netSettle)
	before, err := residentMiB(d.Handles.MonitorPID)
	if err != nil {
		return err
	}
	cmd := g.banger(ctx, "exec", netVM, "--", "netguest", "hold", o.echo, strconv.Itoa(netIdle))
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	}()
	if _, err := io.ReadFull(stdout, make([]byte, 1)); err != nil {
		return fmt.Errorf("the guest does not hold its connections: %w", err)
	}
	time.Sleep(netSettle)
	after, err := residentMiB(d.Handles.MonitorPID)
	if err != nil {
		return err
	}
	r.compare("monitor's memory for 1000 idle connections", "MiB", after-before, 0, 32, true)
	return nil
}

// outside is two namespaces with a cable between them: the inner one is banger's,
// the servers are in the other.
type outside struct {
	inner, outer       string
	echo, sink, source string
	listeners          []net.Listener
}

func (b *bench) newOutside() (_ *outside, err error) {
	name := filepath.Base(b.home)
	o := &outside{inner: name, outer: name + "-out"}
	defer func() {
		if err != nil {
			err = errors.Join(err, o.close())
		}
	}()
	for _, command := range []string{
		"netns add " + o.inner, "netns add " + o.outer,
		"-n " + o.inner + " link set lo up", "-n " + o.outer + " link set lo up",
		"-n " + o.inner + " link add out type veth peer name in netns " + o.outer,
		"-n " + o.inner + " address add 192.0.2.2/24 dev out", "-n " + o.outer + " address add " + netServer + "/24 dev in",
		"-n " + o.inner + " link set out up", "-n " + o.outer + " link set in up",
	} {
		if out, err := exec.Command("ip", strings.Fields(command)...).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("ip %s: %w: %s", command, err, out)
		}
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		done <- o.listen()
	}()
	return o, <-done
}

// listen starts the servers; its thread goes to the outer namespace.
func (o *outside) listen() error {
	ns, err := os.Open(filepath.Join("/run/netns", o.outer))
	if err != nil {
		return err
	}
	defer func() { _ = ns.Close() }()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return err
	}
	for _, s := range []struct {
		address *string
		serve   func(net.Conn)
	}{{&o.echo, func(c net.Conn) { _, _ = io.Copy(c, c) }}, {&o.sink, sink}, {&o.source, source}} {
		l, err := net.Listen("tcp", netServer+":0")
		if err != nil {
			return err
		}
		o.listeners = append(o.listeners, l)
		*s.address = l.Addr().String()
		go accept(l, s.serve)
	}
	return nil
}

func accept(l net.Listener, serve func(net.Conn)) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer func() { _ = conn.Close() }()
			serve(conn)
		}()
	}
}

// sink says how many bytes came.
func sink(c net.Conn) {
	n, _ := io.Copy(io.Discard, c)
	_, _ = c.Write(binary.BigEndian.AppendUint64(nil, uint64(n)))
}

// source sends as many bytes as it is asked for.
func source(c net.Conn) {
	var count [8]byte
	if _, err := io.ReadFull(c, count[:]); err != nil {
		return
	}
	_, _ = io.Copy(c, io.LimitReader(zeros{}, int64(binary.BigEndian.Uint64(count[:]))))
}

func (o *outside) close() error {
	var errs []error
	for _, l := range o.listeners {
		errs = append(errs, l.Close())
	}
	for _, ns := range []string{o.inner, o.outer} {
		if _, err := os.Stat(filepath.Join("/run/netns", ns)); err == nil {
			errs = append(errs, exec.Command("ip", "netns", "delete", ns).Run())
		}
	}
	return errors.Join(errs...)
}
