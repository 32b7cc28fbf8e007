package monitor

import (
	"io"
	"net"
	"testing"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/proc"
	"banger.dev/banger/internal/publish"
	"banger.dev/banger/internal/vmm/vmmtest/fakeguest"
)

// echoing is a server on this host, which the test guest's agent dials, and a
// port to publish it at.
func echoing(t *testing.T) banger.Port {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	p := banger.Port{HostIP: "127.0.0.1", GuestPort: ln.Addr().(*net.TCPAddr).Port, Protocol: banger.ProtocolTCP}
	if p.HostPort, err = publish.Free(p); err != nil {
		t.Fatal(err)
	}
	return p
}

// echoThrough sends a megabyte through a published port and back.
func (v *vm) echoThrough(p banger.Port) {
	v.t.Helper()
	conn, err := net.Dial("tcp", p.Host())
	if err != nil {
		v.t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	v.echo(conn)
}

func TestPortsArePublishedAndEndWithTheMonitor(t *testing.T) {
	first, second := echoing(t), echoing(t)
	order := newOrder(t, "")
	order.Publish = []banger.Port{first}
	v := spawn(t, order)
	v.echoThrough(first) // clients wait for the boot
	if err := v.SyncPorts(v.ctx, []banger.Port{first, second}); err != nil {
		t.Fatal(err)
	}
	v.echoThrough(second)
	v.tell("restart") // of the agent
	v.echoThrough(first)

	bad := second
	bad.HostPort = second.GuestPort // the server's own
	if err := v.SyncPorts(v.ctx, []banger.Port{bad}); banger.KindOf(err) != banger.KindConflict {
		t.Errorf("a port in use: %v", err)
	}
	if err := v.SyncPorts(v.ctx, []banger.Port{{HostPort: 70000}}); banger.KindOf(err) != banger.KindInvalid {
		t.Errorf("no port at all: %v", err)
	}
	v.echoThrough(first)
	if err := v.SyncPorts(v.ctx, nil); err != nil {
		t.Error(err)
	}
	if err := publish.Probe(first); err != nil {
		t.Errorf("a removed port is not free: %v", err)
	}
	if err := v.SyncPorts(v.ctx, []banger.Port{first}); err != nil {
		t.Error(err)
	}
	if err := proc.Kill(v.status.MonitorPID, v.start, patience); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the port is free", func() bool { return publish.Probe(first) == nil })
}

// A port in use fails the start with its reason, before there is a VMM.
func TestAStartWithAPortInUse(t *testing.T) {
	taken := echoing(t)
	taken.HostPort = taken.GuestPort
	order := newOrder(t, "")
	order.Publish = []banger.Port{taken}
	_, err := self(t).Spawn(t.Context(), order)
	if banger.KindOf(err) != banger.KindConflict {
		t.Errorf("%v", err)
	}
	if held, err := Held(order.Files.Lock()); held || err != nil {
		t.Errorf("the lock is held: %v %v", held, err)
	}
}

func TestAnAgentThatIsTooOld(t *testing.T) {
	v := spawnReady(t, newOrder(t, fakeguest.Old))
	err := v.SyncPorts(v.ctx, []banger.Port{echoing(t)})
	if banger.KindOf(err) != banger.KindUnavailable || banger.NextOf(err) == "" {
		t.Errorf("%v", err)
	}
	if err := v.SyncPorts(v.ctx, nil); err != nil {
		t.Error(err)
	}
}
