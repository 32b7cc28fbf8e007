package wire

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// DialRequest is the one JSON line that opens a stream to PortDial. The agent
// answers with a DialAnswer, and from then on both sides send pieces.
type DialRequest struct {
	Network string `json:"network"` // tcp or udp
	Port    uint16 `json:"port"`    // on 127.0.0.1, else ::1, else an address of the guest's own
	// Window is how many bytes of PieceData the agent may send before the host
	// tells it of more; 0: the host does not count. For tcp.
	Window int `json:"window,omitempty"`
}

// DialAnswer is the agent's one line: connected, or why not.
type DialAnswer struct {
	Error  string `json:"error,omitempty"`
	Window int    `json:"window,omitempty"` // the same for what the host sends; 0 too from an agent that cannot count
}

// maxDialLine bounds the lines that open a stream to PortDial.
const maxDialLine = 4 << 10

// ErrDial is a violation of the dial protocol by the other side.
var ErrDial = errors.New("dial protocol violated")

// WriteDial writes a DialRequest or a DialAnswer.
func WriteDial[T DialRequest | DialAnswer](w io.Writer, v T) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

// ReadDial reads what WriteDial wrote, and not a byte further. A stream that
// ends before anything came is io.EOF.
func ReadDial[T DialRequest | DialAnswer](r io.Reader) (T, error) {
	var v T
	var line []byte
	for b := make([]byte, 1); ; {
		if _, err := io.ReadFull(r, b); err != nil {
			if len(line) > 0 {
				err = noEOF(err)
			}
			return v, err
		}
		if b[0] == '\n' {
			break
		}
		if line = append(line, b[0]); len(line) > maxDialLine {
			return v, fmt.Errorf("%w: a line of more than %d bytes", ErrDial, maxDialLine)
		}
	}
	if err := json.Unmarshal(line, &v); err != nil {
		return v, fmt.Errorf("%w: %w", ErrDial, err)
	}
	return v, nil
}

// PieceType says what a piece is. A piece is its type (u8), the length of what
// follows (u16, big endian) and as many bytes. A stream that is closed before
// there was a PieceEnd from both sides is a connection that was broken off.
type PieceType uint8

// The piece types.
const (
	PieceData  PieceType = 0 // bytes of a connection, or one datagram
	PieceEnd   PieceType = 1 // empty: no more comes this way; the other goes on
	PieceTaken PieceType = 2 // u32, big endian: as many more bytes may be sent the other way
)

// sizeTaken is the size of what is in a PieceTaken.
const sizeTaken = 4

// PieceHeaderSize is what goes before a piece's bytes, MaxPiece bounds these.
const (
	PieceHeaderSize = 3
	MaxPiece        = 1<<16 - 1
)

// WritePiece writes a piece in one write. Its bytes are buf[PieceHeaderSize:];
// those before are overwritten with the header.
func WritePiece(w io.Writer, t PieceType, buf []byte) error {
	buf[0] = byte(t)
	binary.BigEndian.PutUint16(buf[1:], uint16(len(buf)-PieceHeaderSize))
	_, err := w.Write(buf)
	return err
}

// ReadPieceHeader reads what is before a piece's bytes. io.EOF is the end of
// the stream between two pieces.
func ReadPieceHeader(r io.Reader) (t PieceType, length int, err error) {
	var b [PieceHeaderSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return 0, 0, err
	}
	t, length = PieceType(b[0]), int(binary.BigEndian.Uint16(b[1:]))
	switch {
	case t == PieceData, t == PieceEnd && length == 0, t == PieceTaken && length == sizeTaken:
		return t, length, nil
	}
	return 0, 0, fmt.Errorf("%w: a piece of type %d and %d bytes", ErrDial, t, length)
}

// WriteTaken writes a PieceTaken in one write.
func WriteTaken(w io.Writer, n int) error {
	return WritePiece(w, PieceTaken, binary.BigEndian.AppendUint32(make([]byte, PieceHeaderSize), uint32(n)))
}

// ReadTaken reads what is in a PieceTaken.
func ReadTaken(r io.Reader) (int, error) {
	var b [sizeTaken]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return 0, noEOF(err)
	}
	return int(binary.BigEndian.Uint32(b[:])), nil
}
