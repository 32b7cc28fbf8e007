package qemu

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
)

// qmp is a client of QEMU's machine protocol: one request at a time, events to
// a function. See docs/interop/qmp-spec in QEMU's sources.
type qmp struct {
	conn    io.ReadWriteCloser
	onEvent func(qmpEvent)

	call    chan struct{} // holds one token: who takes it may ask
	last    uint64        // id of the newest request; its owner holds the token
	waiting atomic.Uint64 // id of the request whose reply is wanted, 0 for none
	greeted chan struct{} // closed at QEMU's greeting
	replies chan qmpMessage
	closed  chan struct{} // the reader has ended: QEMU closed its side
}

type qmpEvent struct {
	Name string
	Data json.RawMessage
}

type qmpMessage struct {
	QMP    json.RawMessage `json:"QMP"`
	Event  string          `json:"event"`
	Data   json.RawMessage `json:"data"`
	Return json.RawMessage `json:"return"`
	ID     uint64          `json:"id"`
	Error  *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
}

// maxQMPLine bounds one message. QEMU has the guest inside it, so it is not
// believed to be harmless; what we ask for is answered in a few bytes.
const maxQMPLine = 256 << 10

var errQMPClosed = errors.New("QEMU closed its control channel")

// newQMP begins to read. onEvent is called from the reading goroutine.
func newQMP(conn io.ReadWriteCloser, onEvent func(qmpEvent)) *qmp {
	q := &qmp{
		conn: conn, onEvent: onEvent,
		call: make(chan struct{}, 1), greeted: make(chan struct{}), replies: make(chan qmpMessage, 1), closed: make(chan struct{}),
	}
	q.call <- struct{}{}
	go q.read()
	return q
}

// read takes QEMU's messages, one a line. What is no message is skipped, but
// one without an end: there is no telling where the next begins.
func (q *qmp) read() {
	defer close(q.closed)
	lines := bufio.NewScanner(q.conn)
	lines.Buffer(nil, maxQMPLine)
	for lines.Scan() {
		var m qmpMessage
		if json.Unmarshal(lines.Bytes(), &m) != nil {
			continue
		}
		q.take(m)
	}
	// The process must not block on a full channel that nobody reads.
	_, _ = io.Copy(io.Discard, q.conn)
}

func (q *qmp) take(m qmpMessage) {
	switch {
	case m.Event != "":
		q.onEvent(qmpEvent{Name: m.Event, Data: m.Data})
	case m.QMP != nil:
		select {
		case <-q.greeted:
		default:
			close(q.greeted)
		}
	case m.ID != 0 && (m.Return != nil || m.Error != nil):
		// Each id is answered once: a second answer, or one to a request that
		// was given up, is nobody's.
		if q.waiting.CompareAndSwap(m.ID, 0) {
			q.replies <- m
		}
	}
}

// handshake waits for QEMU's greeting and leaves the negotiation mode.
func (q *qmp) handshake(ctx context.Context) error {
	select {
	case <-q.greeted:
	case <-q.closed:
		return errQMPClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	return q.execute(ctx, "qmp_capabilities")
}

// execute runs a command without arguments or a result.
func (q *qmp) execute(ctx context.Context, command string) error {
	return q.do(ctx, command, nil, nil)
}

// query runs a command without arguments and gives its result.
func (q *qmp) query(ctx context.Context, command string) (result json.RawMessage, err error) {
	err = q.do(ctx, command, nil, &result)
	return result, err
}

// do runs a command; arguments and result may be nil.
func (q *qmp) do(ctx context.Context, command string, arguments map[string]any, result any) error {
	select {
	case <-q.call:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { q.call <- struct{}{} }()
	q.last++
	q.waiting.Store(q.last)
	m, err := q.ask(ctx, command, arguments)
	if !q.waiting.CompareAndSwap(q.last, 0) && err != nil {
		<-q.replies // it came just as we gave up
	}
	if err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	if m.Error != nil {
		return fmt.Errorf("%s: QEMU says: %s", command, m.Error.Desc)
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(m.Return, result)
}

func (q *qmp) ask(ctx context.Context, command string, arguments map[string]any) (qmpMessage, error) {
	line, err := json.Marshal(struct {
		Execute   string         `json:"execute"`
		Arguments map[string]any `json:"arguments,omitempty"`
		ID        uint64         `json:"id"`
	}{command, arguments, q.last})
	if err != nil {
		return qmpMessage{}, err
	}
	if _, err := q.conn.Write(append(line, '\n')); err != nil {
		return qmpMessage{}, errQMPClosed
	}
	select {
	case m := <-q.replies:
		return m, nil
	case <-q.closed:
		select {
		case m := <-q.replies: // its last words
			return m, nil
		default:
			return qmpMessage{}, errQMPClosed
		}
	case <-ctx.Done():
		return qmpMessage{}, ctx.Err()
	}
}
