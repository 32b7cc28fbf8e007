package wire

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"sync"
	"time"
)

// A virtio-serial port is one byte stream that outlives whoever speaks on it:
// after a restart of either side it may hold any amount of an older session.
// Each marker begins with 8 bytes of magic and goes on with nonces of 16, by
// which it is told from an older one:
//
//	guest → host  HELO, the guest's nonce
//	host → guest  SYNC, the guest's nonce, the host's nonce
//	guest → host  BEGN, the host's nonce
//
// The guest repeats HELO until it is answered, because an older session of the
// host may have eaten the first one. The host answers each once and goes on
// scanning, because the one it has found may itself be old. From the byte after
// BEGN in one direction, and after SYNC in the other, both speak yamux.
const (
	magicHello = "BNGRHELO" // guest → host
	magicSync  = "BNGRSYNC" // host → guest
	magicBegin = "BNGRBEGN" // guest → host

	magicSize  = 8
	nonceSize  = 16
	markerSize = magicSize + nonceSize // of HELO and BEGN
	answerSize = markerSize + nonceSize
)

// resendAfter is how long either side waits before it says its part again.
const resendAfter = 500 * time.Millisecond

// kick is no yamux frame: a guest that still believes in an older session
// drops it on reading this, and opens the port anew.
var kick = bytes.Repeat([]byte{0xff}, markerSize)

// SyncHost is the host's half of the handshake. It blocks until a guest has
// opened its end, however long that takes, and ends only with success or with
// the error of a read or a write: close rw to give up. Not a byte behind the
// handshake is read.
func SyncHost(rw io.ReadWriter) error {
	out := &resender{w: rw, msg: kick}
	out.start(resendAfter) // not at once: most often the guest is about to speak
	defer out.stop()
	nonce := newNonce()
	in := scanner{size: markerSize, target: marker(magicBegin, nonce)}
	var answered []byte
	for {
		seen, err := in.next(rw)
		if err != nil {
			return err
		}
		if bytes.Equal(seen, in.target) {
			return nil
		}
		guest, ok := bytes.CutPrefix(seen, []byte(magicHello))
		if !ok || bytes.Equal(guest, answered) {
			continue
		}
		answered = bytes.Clone(guest)
		out.stop()
		if _, err := rw.Write(append(marker(magicSync, answered), nonce...)); err != nil {
			return err
		}
	}
}

// SyncGuest is the guest's half of the handshake. It blocks until the host
// answers, and ends only with success or with the error of a read or a write.
// Not a byte behind the handshake is read.
func SyncGuest(rw io.ReadWriter) error {
	nonce := newNonce()
	out := &resender{w: rw, msg: marker(magicHello, nonce)}
	if _, err := rw.Write(out.msg); err != nil {
		return err
	}
	out.start(resendAfter)
	defer out.stop()
	in := scanner{size: answerSize, target: marker(magicSync, nonce)}
	for {
		seen, err := in.next(rw)
		if err != nil {
			return err
		}
		if !bytes.HasPrefix(seen, in.target) {
			continue
		}
		out.stop()
		_, err = rw.Write(marker(magicBegin, seen[markerSize:]))
		return err
	}
}

// newNonce draws what tells this opening of the port from any before. It guards
// against leftovers, not against an attacker: the other side is trusted to be
// who it is by being on the other side of the port.
func newNonce() []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, nonceSize), rand.Uint64())
	return binary.BigEndian.AppendUint64(b, rand.Uint64())
}

func marker(magic string, nonce []byte) []byte {
	return append([]byte(magic), nonce...)
}

// scanner looks at a stream through a window of size bytes.
type scanner struct {
	size    int
	target  []byte // how that begins behind which not a byte may be read
	window  []byte
	pending []byte // read, not yet moved into the window
	buf     [answerSize]byte
}

// next moves the window on by one byte and returns it, once it is full. The
// result is valid until the following call.
func (s *scanner) next(r io.Reader) ([]byte, error) {
	for {
		if len(s.pending) == 0 {
			n, err := r.Read(s.buf[:s.size-s.progress()])
			if n == 0 && err != nil {
				return nil, err
			}
			s.pending = s.buf[:n]
			continue
		}
		if len(s.window) == s.size {
			s.window = append(s.window[:0], s.window[1:]...)
		}
		s.window = append(s.window, s.pending[0])
		s.pending = s.pending[1:]
		if len(s.window) == s.size {
			return s.window, nil
		}
	}
}

// progress is how much of what is looked for the stream may have ended with: at
// least the rest of it is still to come, so that much can be read without harm.
func (s *scanner) progress() int {
	for n := min(len(s.window), s.size-1); n > 0; n-- {
		end := s.window[len(s.window)-n:]
		if bytes.HasPrefix(end, s.target[:min(n, len(s.target))]) {
			return n
		}
	}
	return 0
}

// resender writes msg again and again until it is stopped. A failed write ends
// it quietly: whoever reads the other direction meets the same end.
type resender struct {
	w   io.Writer
	msg []byte

	mu    sync.Mutex
	timer *time.Timer
	done  bool
}

func (r *resender) start(every time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.timer = time.AfterFunc(every, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.done {
			return
		}
		if _, err := r.w.Write(r.msg); err == nil {
			r.timer.Reset(every)
		}
	})
}

// stop returns when no write of the resender is under way nor will be.
func (r *resender) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done = true
	if r.timer != nil {
		r.timer.Stop()
	}
}
