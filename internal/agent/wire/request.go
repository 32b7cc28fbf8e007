package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
)

// WriteRequest writes the request line in one write.
func WriteRequest(w io.Writer, req Request) error {
	b, err := json.Marshal(req)
	if err != nil {
		return err
	}
	if len(b) >= MaxRequest {
		return fmt.Errorf("the command line and its environment are too long: %d bytes (at most %d)", len(b), MaxRequest)
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

// Request reads the request line; nothing may have been read before it.
func (r *FrameReader) Request() (Request, error) {
	var req Request
	line, err := r.line(MaxRequest)
	if err != nil {
		return req, err
	}
	if err := json.Unmarshal(line, &req); err != nil {
		return req, fmt.Errorf("%w: request: %w", ErrFrame, err)
	}
	return req, nil
}

func (r *FrameReader) line(limit int) ([]byte, error) {
	var long []byte // what no longer fits the buffer
	for {
		if err := r.fill(1); err != nil {
			if len(long) > 0 {
				err = noEOF(err)
			}
			return nil, err
		}
		chunk := r.buf[r.start:r.end]
		if i := bytes.IndexByte(chunk, '\n'); i >= 0 {
			r.start += i + 1
			if long == nil {
				return chunk[:i], nil
			}
			chunk = chunk[:i]
			long = append(long, chunk...)
			return long, nil
		}
		r.start = r.end
		long = append(long, chunk...)
		if len(long) > limit {
			return nil, fmt.Errorf("%w: a request of more than %d bytes", ErrFrame, limit)
		}
	}
}
