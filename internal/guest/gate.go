package guest

import (
	"encoding/binary"
	"errors"
	"io"
	"sync"
)

// gate stands between the multiplexer and the guest, which yamux would trust with
// the host's memory: it answers each ping by a goroutine, and keeps the streams
// that the other side opens, and what comes for one that is closed here until the
// other side closes it too. No agent pings or opens; what does has its session
// ended. What comes for a stream that is closed here goes no further, and while the
// guest does not close them there are no new ones.
type gate struct {
	io.ReadWriteCloser

	// Of the frame that is being read: its head as far as it has come, how much of
	// its body is still to come, and whether that is for nobody.
	head frameHead
	seen int
	body int
	drop bool

	sending bool // what is written next is a body

	mu   sync.Mutex
	open map[uint32]bool // the streams that the guest has not closed; true: closed here
	left int             // how many of them are closed here
	why  error           // the session is ended, nil unless the guest is to blame
}

// maxLeft bounds the streams that are closed here and not in the guest. A guest
// that reads slowly, or is paused, is told of far fewer at a time.
const maxLeft = 4096

var (
	errIntrusive = errors.New("the guest says what no agent says")
	errHoarding  = errors.New("the guest does not close the streams that it has")
)

func newGate(rw io.ReadWriteCloser) *gate {
	return &gate{ReadWriteCloser: rw, open: map[uint32]bool{}}
}

func (g *gate) Read(p []byte) (int, error) {
	for {
		n, err := g.ReadWriteCloser.Read(p)
		passed, wrong := g.pass(p[:n])
		switch {
		case wrong != nil:
			return 0, g.blame(wrong)
		case passed > 0 || err != nil || len(p) == 0:
			return passed, err
		}
	}
}

// pass moves what may be heard to the beginning of p.
func (g *gate) pass(p []byte) (passed int, err error) {
	for at := 0; at < len(p); {
		if n := min(g.body, len(p)-at); n > 0 {
			if !g.drop {
				if passed < at {
					copy(p[passed:], p[at:at+n])
				}
				passed += n
			}
			g.body -= n
			at += n
			continue
		}
		if p[passed], err = g.next(p[at]); err != nil {
			return 0, err
		}
		passed++
		at++
	}
	return passed, nil
}

// next takes a byte of a head, and gives what is heard of it: a frame that is for
// nobody is one without a body.
func (g *gate) next(b byte) (byte, error) {
	g.head[g.seen] = b
	g.seen++
	switch g.seen {
	case lengthAt:
		return b, g.judge()
	case len(g.head):
		g.seen = 0
		if g.head.kind() == frameData {
			g.body = int(g.head.length())
		}
	}
	if g.drop && (g.seen == 0 || g.seen > lengthAt) {
		return 0, nil
	}
	return b, nil
}

// judge looks at what a frame is, before its length has come.
func (g *gate) judge() error {
	kind, flags, stream := g.head.kind(), g.head.flags(), g.head.stream()
	if kind == framePing || kind < framePing && flags&flagOpens != 0 {
		return errIntrusive
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	closed, open := g.open[stream]
	g.drop = kind == frameData && closed
	if open && flags&flagsEnd != 0 {
		delete(g.open, stream)
		if closed {
			g.left--
		}
	}
	return nil
}

// Write is called with a head or with a body, by one goroutine.
func (g *gate) Write(p []byte) (int, error) {
	switch {
	case g.sending:
		g.sending = false
	case len(p) == len(g.head):
		g.said(frameHead(p))
	}
	return g.ReadWriteCloser.Write(p)
}

// said notes what the host does to its streams.
func (g *gate) said(head frameHead) {
	g.sending = head.kind() == frameData && head.length() > 0
	g.mu.Lock()
	defer g.mu.Unlock()
	stream := head.stream()
	if head.flags()&flagOpens != 0 {
		g.open[stream] = false
	}
	if closed, open := g.open[stream]; open && !closed && head.flags()&flagsEnd != 0 {
		g.open[stream] = true
		g.left++
	}
}

// hoarding says whether the guest has left so many streams open that it gets no more.
func (g *gate) hoarding() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.left >= maxLeft
}

func (g *gate) blame(why error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.why = why
	return why
}

func (g *gate) blamed() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.why
}

// frameHead is how a frame of yamux begins: version, type, flags (2), stream (4),
// length (4).
type frameHead [12]byte

const (
	frameData = 0 // the one type with a body
	framePing = 2
	flagOpens = 1     // SYN
	flagsEnd  = 4 | 8 // FIN and RST
	lengthAt  = 8
)

func (h *frameHead) kind() byte     { return h[1] }
func (h *frameHead) flags() uint16  { return binary.BigEndian.Uint16(h[2:]) }
func (h *frameHead) stream() uint32 { return binary.BigEndian.Uint32(h[4:]) }
func (h *frameHead) length() uint32 { return binary.BigEndian.Uint32(h[lengthAt:]) }
