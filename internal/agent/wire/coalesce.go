package wire

import (
	"encoding/binary"
	"io"
)

// Coalesce joins the two writes that yamux makes of a data frame, its header
// and its body, into one: each write to a serial port costs an exit from the
// guest. yamux writes from one goroutine, and so must any caller.
func Coalesce(rw io.ReadWriteCloser) io.ReadWriteCloser {
	return &coalescer{ReadWriteCloser: rw}
}

// yamuxHeader is the size of a yamux header: version, type, flags (2), stream (4), length (4).
const yamuxHeader = 12

// maxJoined is the largest body worth copying to save a write.
const maxJoined = 32 << 10

type coalescer struct {
	io.ReadWriteCloser
	held []byte // a header whose body is due next, or empty
}

func (c *coalescer) Write(p []byte) (int, error) {
	if len(c.held) == 0 && len(p) == yamuxHeader && p[1] == 0 && binary.BigEndian.Uint32(p[8:]) > 0 {
		c.held = append(c.held, p...)
		return len(p), nil
	}
	if len(c.held) == 0 {
		return c.ReadWriteCloser.Write(p)
	}
	if len(p) > maxJoined {
		_, err := c.ReadWriteCloser.Write(c.held)
		c.held = c.held[:0]
		if err != nil {
			return 0, err
		}
		return c.ReadWriteCloser.Write(p)
	}
	c.held = append(c.held, p...)
	n, err := c.ReadWriteCloser.Write(c.held)
	c.held = c.held[:0]
	if err != nil {
		return max(n-yamuxHeader, 0), err
	}
	return len(p), nil
}
