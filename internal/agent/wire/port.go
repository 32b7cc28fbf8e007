package wire

import (
	"encoding/binary"
	"io"
)

// WritePort begins a new yamux stream: its first four bytes are the port that
// it is for, big endian.
func WritePort(w io.Writer, port uint32) error {
	_, err := w.Write(binary.BigEndian.AppendUint32(nil, port))
	return err
}

// ReadPort reads what WritePort wrote.
func ReadPort(r io.Reader) (uint32, error) {
	var b [4]byte
	_, err := io.ReadFull(r, b[:])
	return binary.BigEndian.Uint32(b[:]), err
}
