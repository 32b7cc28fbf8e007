package guest_test

import (
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"banger.dev/banger/internal/agent/wire"
	"banger.dev/banger/internal/guest"
)

// What a frame of yamux says, by its specification.
const (
	isData, isWindow, isPing   = 0, 1, 2
	opens, agrees, ends, quits = 1, 2, 4, 8
)

// rawGuest speaks yamux by hand.
type rawGuest struct {
	t    *testing.T
	conn net.Conn
}

func (g rawGuest) says(kind byte, flags uint16, stream uint32, length uint32, body ...byte) {
	g.t.Helper()
	if _, err := g.conn.Write(append(frame(kind, flags, stream, length), body...)); err != nil {
		g.t.Error(err)
	}
}

func frame(kind byte, flags uint16, stream uint32, length uint32) []byte {
	head := []byte{0, kind}
	head = binary.BigEndian.AppendUint16(head, flags)
	head = binary.BigEndian.AppendUint32(head, stream)
	return binary.BigEndian.AppendUint32(head, length)
}

// reads forgets all that the host says.
func (g rawGuest) reads() { _, _ = io.Copy(io.Discard, g.conn) }

func aSession(t *testing.T) (*guest.Session, rawGuest) {
	t.Helper()
	host, inside := serialPair(t)
	session, err := guest.NewSession(host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = session.Close() })
	return session, rawGuest{t, inside}
}

func mustEnd(t *testing.T, session *guest.Session) {
	t.Helper()
	select {
	case <-session.Done():
	case <-time.After(time.Minute):
		t.Fatal("the session goes on")
	}
	if session.Blame() == nil {
		t.Error("and the guest is not to blame")
	}
}

// A guest may make the host neither answer pings that it does not read, nor keep
// streams of the guest's own.
func TestWhatNoAgentSaysEndsTheSession(t *testing.T) {
	for name, intrude := range map[string]func(rawGuest){
		"a ping":                    func(g rawGuest) { g.says(isPing, opens, 0, 7) },
		"an answer to no ping":      func(g rawGuest) { g.says(isPing, agrees, 0, 7) },
		"a stream of its own":       func(g rawGuest) { g.says(isWindow, opens, 2, 0) },
		"one that begins with data": func(g rawGuest) { g.says(isData, opens, 4, 1, 'x') },
	} {
		t.Run(name, func(t *testing.T) {
			session, inside := aSession(t)
			go inside.reads()
			intrude(inside)
			mustEnd(t, session)
		})
	}
}

// openedStream is the n-th of the host's streams.
func openedStream(t *testing.T, session *guest.Session) net.Conn {
	t.Helper()
	conn, err := session.Open(t.Context(), wire.PortControl)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// What comes for a stream that is closed here is for nobody, however much it is;
// the others go on.
func TestAClosedStreamHearsNothing(t *testing.T) {
	session, inside := aSession(t)
	go inside.reads()
	inside.says(isWindow, agrees, 1, 0)
	gone := openedStream(t, session)
	inside.says(isData, agrees, 1, 5, []byte("early")...)
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	kept := openedStream(t, session)
	late := make([]byte, wire.StreamWindow) // more than yamux lets anybody send
	for range 3 {
		inside.says(isData, 0, 1, uint32(len(late)), late...)
	}
	inside.says(isData, agrees, 3, 4, []byte("this")...)
	inside.says(isData, ends, 1, 4, []byte("late")...)
	inside.says(isData, ends, 3, 5, []byte(" too.")...)
	got, err := io.ReadAll(kept)
	if err != nil || string(got) != "this too." {
		t.Errorf("the other stream: %q, %v", got, err)
	}
	if n, err := gone.Read(late); n > 0 || err == nil {
		t.Errorf("the closed one: %d bytes, %v", n, err)
	}
	if err := session.Blame(); err != nil {
		t.Error(err)
	}
}

// A guest that closes nothing does not make the host remember it for ever: it gets
// no more streams until it has closed some.
func TestAGuestThatClosesNothingGetsNoMore(t *testing.T) {
	session, inside := aSession(t)
	opened := make(chan uint32, 1<<16)
	go func() { // it agrees to whatever is opened
		head := make([]byte, 12)
		for {
			if _, err := io.ReadFull(inside.conn, head); err != nil {
				return
			}
			kind, flags, stream, length := head[1], binary.BigEndian.Uint16(head[2:]), binary.BigEndian.Uint32(head[4:]), binary.BigEndian.Uint32(head[8:])
			if kind == isData {
				_, _ = io.CopyN(io.Discard, inside.conn, int64(length))
			}
			if flags&opens != 0 {
				opened <- stream
				if _, err := inside.conn.Write(frame(isWindow, agrees, stream, 0)); err != nil {
					return
				}
			}
		}
	}()
	for range cap(opened) {
		conn, err := session.Open(t.Context(), wire.PortControl)
		if err != nil {
			break
		}
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if len(opened) == cap(opened) {
		t.Error("it has been given everything")
	}
	for len(opened) > 0 {
		inside.says(isWindow, ends, <-opened, 0)
	}
	for { // once that has been heard
		conn, err := session.Open(t.Context(), wire.PortControl)
		if err == nil {
			_ = conn.Close()
			return
		}
		time.Sleep(time.Millisecond)
		if t.Context().Err() != nil || session.Blame() != nil {
			t.Fatal(err, session.Blame())
		}
	}
}
