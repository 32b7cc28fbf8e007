package qcow2

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"banger.dev/banger/internal/disk"
)

const subclusterSize = clusterSize / 32

// Flatten implements disk.Driver.
func (Driver) Flatten(ctx context.Context, base disk.Base, path string, w io.WriterAt) error {
	if err := check(path); err != nil {
		return err
	}
	overlay, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = overlay.Close() }()
	below, err := os.Open(base.Path)
	if err != nil {
		return err
	}
	defer func() { _ = below.Close() }()
	f := flattening{ctx: ctx, overlay: overlay, below: below, end: int64(base.Size), w: w, buf: make([]byte, clusterSize)}
	if err := f.run(); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

// flattening is the copying of what is visible of an overlay.
type flattening struct {
	ctx     context.Context
	overlay *os.File
	below   *os.File
	end     int64 // of what is below
	w       io.WriterAt
	buf     []byte
}

func (f *flattening) run() error {
	var h header
	if err := binary.Read(f.overlay, binary.BigEndian, &h); err != nil {
		return err
	}
	l1, err := table(f.overlay, h.L1TableOffset, int(h.L1Size))
	if err != nil {
		return err
	}
	for i, entry := range l1 {
		start := int64(i) * perL1Entry
		if entry&offsetMask == 0 {
			err = f.fromBelow(start, start+perL1Entry)
		} else {
			err = f.fromL2(start, entry&offsetMask)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// fromL2 copies what one L2 table maps. An entry is where its cluster lies, and a
// bit for each subcluster that is there and for each that reads as zeros.
func (f *flattening) fromL2(start int64, at uint64) error {
	words, err := table(f.overlay, at, clusterSize/8)
	if err != nil {
		return err
	}
	for i := 0; i < len(words); i += l2EntrySize / 8 {
		host, bits := int64(words[i]&offsetMask), words[i+1]
		guest := start + int64(i/(l2EntrySize/8))*clusterSize
		if bits == 0 {
			if err := f.fromBelow(guest, guest+clusterSize); err != nil {
				return err
			}
			continue
		}
		if host == 0 && uint32(bits) != 0 {
			return fmt.Errorf("it has data that lies nowhere (%w)", disk.ErrDamaged)
		}
		if err := f.fromCluster(guest, host, bits); err != nil {
			return err
		}
	}
	return nil
}

func (f *flattening) fromCluster(guest, host int64, bits uint64) error {
	for i := range int64(32) {
		at, from := guest+i*subclusterSize, host+i*subclusterSize
		var err error
		switch {
		case bits>>i&1 != 0:
			err = f.copy(f.overlay, from, at, subclusterSize)
		case bits>>(32+i)&1 == 0:
			err = f.fromBelow(at, at+subclusterSize)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// fromBelow copies what the base has between two places, but for its holes.
func (f *flattening) fromBelow(at, end int64) error {
	end = min(end, f.end)
	for at < end {
		data, err := unix.Seek(int(f.below.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) || err == nil && data >= end {
			return nil
		}
		if err != nil {
			return err
		}
		hole, err := unix.Seek(int(f.below.Fd()), data, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if err := f.copy(f.below, data, data, min(hole, end)-data); err != nil {
			return err
		}
		at = hole
	}
	return nil
}

// copy is of n bytes. What lies behind the end of the file is zeros.
func (f *flattening) copy(from *os.File, at, to, n int64) error {
	for n > 0 {
		if err := f.ctx.Err(); err != nil {
			return err
		}
		read, err := from.ReadAt(f.buf[:min(n, int64(len(f.buf)))], at)
		if _, err := f.w.WriteAt(f.buf[:read], to); err != nil {
			return err
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		at, to, n = at+int64(read), to+int64(read), n-int64(read)
	}
	return nil
}
