package wire

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
)

// FrameHeaderSize is what goes before a frame's payload: type u8, length u32.
const FrameHeaderSize = 5

// maxControlFrame bounds the payload of a frame that does not carry a stream's bytes.
const maxControlFrame = 16 << 10

// frameBuffer is the read buffer of a FrameReader: at least a control frame
// with its header, and enough that bulk data comes in few reads.
const frameBuffer = 128 << 10

// ErrFrame is a violation of the exec protocol by the other side.
var ErrFrame = errors.New("exec protocol violated")

// carriesBytes says whether frames of the type are pieces of a byte stream, so
// that their boundaries mean nothing.
func (t FrameType) carriesBytes() bool {
	return t == FrameStdin || t == FrameStdout || t == FrameStderr
}

// FrameWriter writes frames, each in one write. It may be used from several
// goroutines. After an error the stream is spoilt.
type FrameWriter struct {
	mu  sync.Mutex
	w   io.Writer
	buf []byte
}

// NewFrameWriter writes to w.
func NewFrameWriter(w io.Writer) *FrameWriter { return &FrameWriter{w: w} }

// Write writes a frame. The payload is copied; for bulk data use WriteInPlace.
func (w *FrameWriter) Write(t FrameType, payload []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf = append(w.buf[:0], 0, 0, 0, 0, 0)
	w.buf = append(w.buf, payload...)
	return w.write(t, w.buf)
}

// WriteInPlace writes a frame whose payload is buf[FrameHeaderSize:]; the bytes
// before it are overwritten with the header.
func (w *FrameWriter) WriteInPlace(t FrameType, buf []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.write(t, buf)
}

func (w *FrameWriter) write(t FrameType, frame []byte) error {
	length := len(frame) - FrameHeaderSize
	if length > MaxFrame {
		return fmt.Errorf("%w: a frame of %d bytes (at most %d)", ErrFrame, length, MaxFrame)
	}
	frame[0] = byte(t)
	binary.BigEndian.PutUint32(frame[1:], uint32(length))
	_, err := w.w.Write(frame)
	return err
}

// WriteExit writes the last frame.
func (w *FrameWriter) WriteExit(e Exit) error {
	if e.Error != nil && len(e.Error.Message) > maxControlFrame/8 {
		short := *e.Error // quoted in JSON a byte may take six
		short.Message = short.Message[:maxControlFrame/8]
		e.Error = &short
	}
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return w.Write(FrameExit, b)
}

// WriteUint32 writes a frame with one number, such as FrameCredit.
func (w *FrameWriter) WriteUint32(t FrameType, n uint32) error {
	return w.Write(t, binary.BigEndian.AppendUint32(nil, n))
}

// WriteResize writes a FrameResize.
func (w *FrameWriter) WriteResize(rows, cols uint16) error {
	b := binary.BigEndian.AppendUint16(nil, rows)
	return w.Write(FrameResize, binary.BigEndian.AppendUint16(b, cols))
}

// FrameReader reads the request line and frames. It is for one goroutine.
type FrameReader struct {
	r          io.Reader
	buf        []byte
	start, end int

	inside    FrameType // the frame that Next is in the middle of
	remaining int       // bytes of it still to hand out
}

// NewFrameReader reads from r.
func NewFrameReader(r io.Reader) *FrameReader { return &FrameReader{r: r} }

// Next gives the next frame, or the next piece of one that carries bytes: such
// a frame is handed out as it arrives. The payload is valid until the following
// call. At the end of the stream between two frames the error is io.EOF.
func (r *FrameReader) Next() (FrameType, []byte, error) {
	if r.remaining > 0 {
		return r.piece()
	}
	if err := r.fill(FrameHeaderSize); err != nil {
		return 0, nil, err
	}
	t := FrameType(r.buf[r.start])
	length := binary.BigEndian.Uint32(r.buf[r.start+1:])
	switch {
	case t > lastFrameType:
		return 0, nil, fmt.Errorf("%w: unknown frame type %d", ErrFrame, t)
	case length > MaxFrame || (!t.carriesBytes() && length > maxControlFrame):
		return 0, nil, fmt.Errorf("%w: a frame of type %d and %d bytes", ErrFrame, t, length)
	}
	r.start += FrameHeaderSize
	if t.carriesBytes() && length > 0 {
		r.inside, r.remaining = t, int(length)
		return r.piece()
	}
	if err := r.fill(int(length)); err != nil {
		return 0, nil, noEOF(err)
	}
	payload := r.buf[r.start : r.start+int(length)]
	r.start += int(length)
	return t, payload, nil
}

func (r *FrameReader) piece() (FrameType, []byte, error) {
	if err := r.fill(1); err != nil {
		return 0, nil, noEOF(err)
	}
	n := min(r.remaining, r.end-r.start)
	p := r.buf[r.start : r.start+n]
	r.start += n
	r.remaining -= n
	return r.inside, p, nil
}

// fill reads until at least n bytes are buffered. io.EOF means that none were.
func (r *FrameReader) fill(n int) error {
	if r.end-r.start >= n {
		return nil
	}
	if r.buf == nil {
		r.buf = make([]byte, frameBuffer)
	}
	if r.start == r.end {
		r.start, r.end = 0, 0
	} else if r.start+n > len(r.buf) {
		r.end = copy(r.buf, r.buf[r.start:r.end])
		r.start = 0
	}
	for r.end-r.start < n {
		m, err := r.r.Read(r.buf[r.end:])
		r.end += m
		if err != nil && r.end-r.start < n {
			if r.end > r.start {
				return noEOF(err)
			}
			return err
		}
	}
	return nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// ParseResize reads the payload of a FrameResize.
func ParseResize(p []byte) (rows, cols uint16, err error) {
	if len(p) != 4 {
		return 0, 0, fmt.Errorf("%w: a resize of %d bytes", ErrFrame, len(p))
	}
	return binary.BigEndian.Uint16(p), binary.BigEndian.Uint16(p[2:]), nil
}

// ParseCredit reads the payload of a FrameCredit.
func ParseCredit(p []byte) (uint32, error) {
	if len(p) != 4 {
		return 0, fmt.Errorf("%w: a credit of %d bytes", ErrFrame, len(p))
	}
	return binary.BigEndian.Uint32(p), nil
}

// ParseSignal reads the payload of a FrameSignal: a number from 1 to 64.
func ParseSignal(p []byte) (int, error) {
	if len(p) != 1 || p[0] < 1 || p[0] > 64 {
		return 0, fmt.Errorf("%w: signal %v", ErrFrame, p)
	}
	return int(p[0]), nil
}

// ParseExit reads the payload of a FrameExit.
func ParseExit(p []byte) (Exit, error) {
	var e Exit
	if err := json.Unmarshal(p, &e); err != nil {
		return e, fmt.Errorf("%w: exit: %w", ErrFrame, err)
	}
	set := 0
	if e.Code != nil {
		set++
	}
	if e.Signal != 0 {
		set++
	}
	if e.Error != nil {
		set++
	}
	if set != 1 {
		return e, fmt.Errorf("%w: exit %q says %d things", ErrFrame, p, set)
	}
	return e, nil
}
