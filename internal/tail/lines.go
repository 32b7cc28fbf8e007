package tail

import (
	"bytes"
	"errors"
	"io"
)

// maxLine is where a line without an end is broken.
const maxLine = 64 << 10

// Line is a line with its end.
type Line struct {
	Text   []byte // until the next line is read
	Behind Place  // where the next one begins
}

// Lines reads the lines of a Reader.
type Lines struct {
	from  *Reader
	chunk []byte
	rest  []byte // read, and not given yet
	place Place  // behind rest
}

// NewLines reads on where r is.
func NewLines(r *Reader) *Lines { return &Lines{from: r, chunk: make([]byte, 32<<10)} }

// Next is the next line. The last one may have no end. The error is the Reader's.
func (l *Lines) Next() (Line, error) {
	for {
		if end := bytes.IndexByte(l.rest, '\n'); end >= 0 {
			return l.take(end + 1), nil
		}
		if len(l.rest) >= maxLine {
			return l.take(len(l.rest)), nil
		}
		n, err := l.from.Read(l.chunk)
		if n > 0 {
			l.rest, l.place = append(l.rest, l.chunk[:n]...), l.from.Place()
			continue
		}
		if errors.Is(err, io.EOF) && len(l.rest) > 0 {
			return l.take(len(l.rest)), nil
		}
		if err != nil {
			return Line{}, err
		}
	}
}

func (l *Lines) take(n int) Line {
	line := Line{Text: l.rest[:n], Behind: l.place}
	l.rest = l.rest[n:]
	line.Behind.Offset -= int64(len(l.rest))
	return line
}
