package monitor

import (
	"log/slog"
	"testing"
	"time"

	"banger.dev/banger/internal/agent/wire"
	"banger.dev/banger/internal/vmm/vmmtest/fakeguest"
)

func TestMetricsOfARun(t *testing.T) {
	v := spawnReady(t, newOrder(t, ""))
	path := v.order.Files.Metrics()
	m, err := ReadMetrics(path)
	eventually(t, "metrics.json is there", func() bool { m, err = ReadMetrics(path); return err == nil })
	var names []string
	last := int64(0)
	for _, p := range m.Phases {
		if names = append(names, p.Name); p.BeginMS < last {
			t.Errorf("%+v", m.Phases)
		}
		last = p.BeginMS
	}
	want := []string{wire.StageKernel, wire.StageModules, wire.StageRoot, wire.StagePorts, phaseReady}
	if mustJSON(names) != mustJSON(want) || m.Boots != 1 || m.Started.IsZero() || m.Ended != nil || m.Sessions != 1 {
		t.Errorf("%+v", m)
	}
	if s := v.now(); mustJSON(s.Phases) != mustJSON(m.Phases) {
		t.Errorf("the status has %+v, metrics.json %+v", s.Phases, m.Phases)
	}
	conn := v.dial(fakeguest.PortEcho)
	v.echo(conn)
	_ = conn.Close()
	if err := v.Kill(v.ctx); err != nil {
		t.Fatal(err)
	}
	v.ended()
	if m, err := ReadMetrics(path); err != nil || m.Ended == nil || m.Streams != 1 || len(m.Phases) != len(want) {
		t.Errorf("%+v %v", m, err)
	}
}

// What a guest says of its stages is taken for them only as far as they are.
func TestPhasesOfAHostileGuest(t *testing.T) {
	order := newOrder(t, "")
	c, err := newConsole(order.Files)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	for range 1000 {
		_, _ = c.Write([]byte(wire.StagePrefix + "evil\x1b[31m\n" + wire.StagePrefix + wire.StageRoot + "\n" + wire.StagePrefix + phaseReady + "\n"))
	}
	c.ready()
	_, _ = c.Write([]byte(wire.StagePrefix + wire.StagePorts + "\n"))
	if got := c.boot(); len(got) != 3 || got[1].Name != wire.StageRoot || got[2].Name != phaseReady {
		t.Errorf("%+v", got)
	}
}

func TestClock(t *testing.T) {
	v := spawnReady(t, newOrder(t, ""))
	if drift, err := v.Clock(v.ctx); err != nil || drift < 59*time.Minute || drift > 61*time.Minute {
		t.Errorf("%s %v, want an hour", drift, err)
	}
	if drift, err := v.SetClock(v.ctx); err != nil || drift < 59*time.Minute {
		t.Errorf("%s %v, want an hour", drift, err)
	}
	if drift, err := v.Clock(v.ctx); err != nil || drift.Abs() > time.Minute {
		t.Errorf("%s %v after it was set", drift, err)
	}
}

// An agent that does not know the question has its clock set all the same.
func TestClockOfAnOldAgent(t *testing.T) {
	v := spawnReady(t, newOrder(t, fakeguest.Old))
	if _, err := v.Clock(v.ctx); err == nil {
		t.Error("an agent that cannot say what time it is said it")
	}
	if drift, err := v.SetClock(v.ctx); err != nil || drift != 0 {
		t.Errorf("%s %v", drift, err)
	}
}

func TestStampOf(t *testing.T) {
	now := time.Now().Truncate(time.Millisecond)
	line := append(now.AppendFormat(nil, stampLayout), "banger: stage root\n"...)
	if at, ok := StampOf(line); !ok || !at.Equal(now) {
		t.Errorf("%v %v", at, ok)
	}
	for _, line := range []string{"", " ", "\n", "no stamp here\n", "2026-13-01T00:00:00.000Z x\n"} {
		if at, ok := StampOf([]byte(line)); ok {
			t.Errorf("%q: %v", line, at)
		}
	}
}

// An answer that comes when the guest has been started anew is none of this boot's.
func TestALateHelloEndsNoPhase(t *testing.T) {
	c, err := newConsole(newOrder(t, "").Files)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	earlier, port := serialPort(t)
	ended := make(chan error, 1)
	go func() { ended <- fakeguest.Serve(port) }()
	earlier.mustOpen(t)
	m := &monitor{console: c, channel: newChannel(nil, nil), log: slog.New(slog.DiscardHandler), ready: make(chan struct{})}
	c.reset()
	m.greet(earlier)
	_, _ = c.Write([]byte(wire.StagePrefix + wire.StageRoot + "\n"))
	if got := c.boot(); len(got) != 2 || got[1].Name != wire.StageRoot {
		t.Errorf("%+v", got)
	}
	earlier.end()
	_ = port.Close()
	<-ended
}
