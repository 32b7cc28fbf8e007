package qemu

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"banger.dev/banger/internal/vmm"
)

// peer plays QEMU at the other end of the control channel.
type peer struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

func newPeer(t *testing.T, onEvent func(qmpEvent)) (*qmp, *peer) {
	t.Helper()
	ours, theirs := net.Pipe()
	q := newQMP(ours, onEvent)
	p := &peer{t: t, conn: theirs, in: bufio.NewReader(theirs)}
	t.Cleanup(func() {
		_ = theirs.Close()
		<-q.closed
		_ = ours.Close()
	})
	return q, p
}

func (p *peer) say(line string) {
	p.t.Helper()
	if _, err := io.WriteString(p.conn, line+"\r\n"); err != nil {
		p.t.Error(err)
	}
}

// request takes the next request.
func (p *peer) request() (command string, id uint64) {
	p.t.Helper()
	line, err := p.in.ReadBytes('\n')
	if err != nil {
		p.t.Error(err)
		return "", 0
	}
	var r struct {
		Execute string `json:"execute"`
		ID      uint64 `json:"id"`
	}
	if err := json.Unmarshal(line, &r); err != nil || r.ID == 0 {
		p.t.Errorf("request %q: %v", line, err)
	}
	return r.Execute, r.ID
}

func (p *peer) answer(id uint64, rest string) {
	p.t.Helper()
	p.say(`{` + rest + `, "id": ` + strconv.FormatUint(id, 10) + `}`)
}

func TestHandshake(t *testing.T) {
	q, p := newPeer(t, func(qmpEvent) {})
	go func() {
		p.say(`{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}}, "capabilities": ["oob"]}}`)
		command, id := p.request()
		if command != "qmp_capabilities" {
			t.Errorf("the first command is %q", command)
		}
		p.answer(id, `"return": {}`)
	}()
	if err := q.handshake(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestHandshakeEnds(t *testing.T) {
	t.Run("WithThePeer", func(t *testing.T) {
		q, p := newPeer(t, func(qmpEvent) {})
		_ = p.conn.Close()
		if err := q.handshake(t.Context()); !errors.Is(err, errQMPClosed) {
			t.Error(err)
		}
	})
	t.Run("WithTheContext", func(t *testing.T) {
		q, _ := newPeer(t, func(qmpEvent) {})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := q.handshake(ctx); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func TestErrorRepeatsWhatQEMUSays(t *testing.T) {
	q, p := newPeer(t, func(qmpEvent) {})
	go func() {
		_, id := p.request()
		p.answer(id, `"error": {"class": "GenericError", "desc": "no such thing"}`)
	}()
	if err := q.execute(t.Context(), "stop"); err == nil || err.Error() != "stop: QEMU says: no such thing" {
		t.Error(err)
	}
}

// TestLateReply: the answer to a call that was given up is not taken for that
// of the next.
func TestLateReply(t *testing.T) {
	q, p := newPeer(t, func(qmpEvent) {})
	ctx, cancel := context.WithCancel(t.Context())
	given := make(chan error)
	go func() { given <- q.execute(ctx, "system_powerdown") }()
	_, late := p.request()
	cancel()
	if err := <-given; !errors.Is(err, context.Canceled) {
		t.Errorf("the call that was given up: %v", err)
	}
	next := make(chan error)
	go func() { next <- q.execute(t.Context(), "stop") }()
	command, id := p.request()
	p.answer(late, `"error": {"class": "GenericError", "desc": "late"}`)
	p.answer(late, `"return": {}`)
	p.say(`{"return": {}}`) // to nobody
	p.answer(id+1, `"error": {"class": "GenericError", "desc": "early"}`)
	select {
	case err := <-next:
		t.Fatalf("%s was answered by another's reply: %v", command, err)
	default:
	}
	p.answer(id, `"return": {}`)
	if err := <-next; err != nil {
		t.Error(err)
	}
}

// TestReplyAtTheLastMoment: whichever of an answer and the end of the context
// comes first, the next call gets its own answer.
func TestReplyAtTheLastMoment(t *testing.T) {
	q, p := newPeer(t, func(qmpEvent) {})
	for range 200 {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- q.execute(ctx, "stop") }()
		_, id := p.request()
		go cancel()
		p.answer(id, `"error": {"class": "GenericError", "desc": "first"}`)
		if err := <-done; err == nil {
			t.Fatal("the first call succeeded")
		}
		go func() { done <- q.execute(t.Context(), "cont") }()
		_, id = p.request()
		p.answer(id, `"return": {}`)
		if err := <-done; err != nil {
			t.Fatalf("the second call: %v", err)
		}
		cancel()
	}
}

func TestCallsWaitForTheirTurnWithinTheirContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, p := newPeer(t, func(qmpEvent) {})
		first := make(chan error)
		go func() { first <- q.execute(t.Context(), "stop") }()
		_, id := p.request()
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := q.execute(short, "cont"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a call behind one that hangs: %v", err)
		}
		p.answer(id, `"return": {}`)
		if err := <-first; err != nil {
			t.Error(err)
		}
	})
}

func TestEventsAndNonsense(t *testing.T) {
	var mu sync.Mutex
	var names []string
	q, p := newPeer(t, func(e qmpEvent) {
		mu.Lock()
		defer mu.Unlock()
		names = append(names, e.Name)
	})
	for _, line := range []string{
		`{"event": "A"}`, `no JSON`, `{"event": 7}`, `[]`, `null`, `{}`, ``, `{"return": {}, "id": "x"}`, `{"QMP": 1}`, `{"QMP": 2}`, "\x00\xff", `{"event": "B", "data": "x"}`,
	} {
		p.say(line)
	}
	_ = p.conn.Close()
	<-q.closed
	if got := strings.Join(names, " "); got != "A B" {
		t.Errorf("events %q", got)
	}
}

// TestEndlessLine: a peer that sends a line without an end costs a bounded
// amount of memory, is not blocked, and its end is still seen.
func TestEndlessLine(t *testing.T) {
	q, p := newPeer(t, func(qmpEvent) { t.Error("an event was believed") })
	chunk := []byte(strings.Repeat("x", 64<<10))
	for range 4 * maxQMPLine / len(chunk) {
		if _, err := p.conn.Write(chunk); err != nil {
			t.Fatal(err)
		}
	}
	p.say("")
	p.say(`{"event": "LATER"}`)
	_ = p.conn.Close()
	<-q.closed
}

// FuzzQMP: whatever QEMU sends, the reader neither panics nor hangs, and calls
// end with the connection.
func FuzzQMP(f *testing.F) {
	for _, seed := range []string{
		`{"QMP": {}}` + "\r\n" + `{"return": {}, "id": 1}` + "\r\n",
		`{"event": "VSERPORT_CHANGE", "data": {"open": true, "id": "agent"}}` + "\n",
		`{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}}` + "\n" + `{"event": "STOP"}` + "\n",
		`{"event": "BLOCK_IO_ERROR", "data": {"reason": "No space left on device"}}` + "\n" + `{"event": "STOP", "data": []}` + "\n",
		`{"error": {"class": "x"}, "id": 1}`, "{", "\n\n", strings.Repeat(`{"a":`, 2000), `{"id": 18446744073709551616}` + "\n",
		`{"QMP": null, "return": null, "id": 1}` + "\n" + `{"return": 1, "error": {}, "id": 1}` + "\n" + `{"return": 1, "id": 1}` + "\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		m := &machine{}
		m.events = make(chan vmm.Event, eventBuffer)
		q, p := newPeer(t, m.onEvent)
		calls := make(chan error, 1)
		go func() {
			err := q.handshake(t.Context())
			if err == nil {
				err = q.execute(t.Context(), "system_powerdown")
			}
			calls <- err
		}()
		go func() { _, _ = io.Copy(io.Discard, p.conn) }()
		_, _ = p.conn.Write(said)
		_ = p.conn.Close()
		<-calls
		<-q.closed
		if len(m.shutdown) > maxQMPLine || len(m.ioReason) > maxQMPLine {
			t.Error("unbounded")
		}
	})
}
