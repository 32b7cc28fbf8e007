package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
)

// The ssh server lies at the end of the modules disk, behind the file system:
// the program, zeros up to a sector, and one sector of magic and length (u64,
// big endian). So it costs a boot nothing, and no memory before its first use.
const (
	serverMagic = "BANGERS1"
	sectorSize  = 512
)

// maxServer bounds what is believed of a length.
const maxServer = 256 << 20

// ErrNoServer means that a modules disk carries no ssh server.
var ErrNoServer = errors.New("the modules disk carries no ssh server")

// AppendServer writes what follows a file system of size bytes, which is a
// multiple of a sector.
func AppendServer(w io.Writer, program []byte) error {
	tail := make([]byte, sectorsOf(int64(len(program)))-int64(len(program))+sectorSize)
	last := tail[len(tail)-sectorSize:]
	copy(last, serverMagic)
	binary.BigEndian.PutUint64(last[len(serverMagic):], uint64(len(program)))
	if _, err := w.Write(program); err != nil {
		return err
	}
	_, err := w.Write(tail)
	return err
}

// FindServer finds the program on a disk of size bytes. What lies before it is
// the file system alone.
func FindServer(disk io.ReaderAt, size int64) (*io.SectionReader, error) {
	last := make([]byte, len(serverMagic)+8)
	if size < sectorSize {
		return nil, ErrNoServer
	}
	if _, err := disk.ReadAt(last, size-sectorSize); err != nil {
		return nil, err
	}
	length := binary.BigEndian.Uint64(last[len(serverMagic):])
	if !bytes.HasPrefix(last, []byte(serverMagic)) || length == 0 || length > maxServer {
		return nil, ErrNoServer
	}
	start := size - sectorSize - sectorsOf(int64(length))
	if start < 0 {
		return nil, ErrNoServer
	}
	return io.NewSectionReader(disk, start, int64(length)), nil
}

func sectorsOf(n int64) int64 { return (n + sectorSize - 1) / sectorSize * sectorSize }
