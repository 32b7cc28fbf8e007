package command

import "banger.dev/banger/internal/agent/wire"

// ringSize holds all the credit, and the keys that end a terminal's input.
const ringSize = wire.InitialCredit + 2

// ring is a queue of at most ringSize bytes. Its memory is taken at the first push.
type ring struct {
	buf   []byte
	start int
	size  int
}

func (r *ring) len() int { return r.size }

// push appends a copy of p, for which there must be room.
func (r *ring) push(p []byte) {
	if len(p) == 0 {
		return
	}
	if r.buf == nil {
		r.buf = make([]byte, ringSize)
	}
	at := (r.start + r.size) % ringSize
	n := copy(r.buf[at:], p)
	copy(r.buf, p[n:])
	r.size += len(p)
}

// peek gives the front, as far as it lies in one piece. It stays valid, and is
// not written to, until it is dropped.
func (r *ring) peek() []byte { return r.buf[r.start:min(r.start+r.size, ringSize)] }

// drop takes n bytes off the front.
func (r *ring) drop(n int) {
	if n == 0 {
		return
	}
	r.start = (r.start + n) % ringSize
	r.size -= n
}
