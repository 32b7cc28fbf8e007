package qcow2

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"banger.dev/banger/internal/disk"
)

const (
	incompatCorrupt = 1 << 1             // QEMU has found damage itself
	offsetMask      = 0x00fffffffffffe00 // of an entry in the L1 and L2 tables
	compressed      = 1 << 62            // such an entry is no offset; we make none
	maxL1           = 1 << 20            // entries: 1 PiB
)

// check reads what the overlay at path says of itself: QEMU takes what lies
// behind the end of a file for zeros, so that one that was cut off would start,
// and lose data without a word. Damage to the data cannot be seen.
func check(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if why := damageIn(f, uint64(info.Size())); why != nil {
		return fmt.Errorf("%s is damaged: %w (%w)", path, why, disk.ErrDamaged)
	}
	return nil
}

// damageIn is what is wrong with the metadata of an overlay of size bytes.
func damageIn(f io.ReaderAt, size uint64) error {
	var h header
	if err := binary.Read(io.NewSectionReader(f, 0, int64(size)), binary.BigEndian, &h); err != nil {
		return errors.New("it is cut off")
	}
	switch {
	case h.Magic != magic || h.Version != 3:
		return errors.New("it does not begin as a qcow2 file does")
	case h.IncompatibleFeatures&incompatCorrupt != 0:
		return errors.New("QEMU has marked it so")
	case h.IncompatibleFeatures != incompatExtendedL2 || h.ClusterBits != clusterBits || h.L1Size > maxL1 || h.RefcountOrder != refcountOrder:
		return errors.New("its header is none that banger writes")
	case !inside(h.RefcountTableOffset, size) || h.L1TableOffset%clusterSize != 0 || h.L1TableOffset+8*uint64(h.L1Size) > size:
		return errors.New("it is cut off")
	}
	l1, err := table(f, h.L1TableOffset, int(h.L1Size))
	if err != nil {
		return err
	}
	for _, entry := range l1 {
		if at := entry & offsetMask; at != 0 {
			if err := damageInL2(f, at, size); err != nil {
				return err
			}
		}
	}
	return nil
}

func damageInL2(f io.ReaderAt, at, size uint64) error {
	if !inside(at, size) || at+clusterSize > size {
		return errors.New("a table in it lies behind its end: it is cut off, or scribbled upon")
	}
	words, err := table(f, at, clusterSize/8)
	if err != nil {
		return err
	}
	for i := 0; i < len(words); i += l2EntrySize / 8 {
		if words[i]&compressed != 0 || words[i]&offsetMask != 0 && !inside(words[i]&offsetMask, size) {
			return errors.New("data in it lies behind its end: it is cut off, or scribbled upon")
		}
	}
	return nil
}

// inside says whether a cluster can begin at an offset of a file of size bytes.
func inside(at, size uint64) bool { return at%clusterSize == 0 && at < size }

func table(f io.ReaderAt, at uint64, entries int) ([]uint64, error) {
	words := make([]uint64, entries)
	return words, binary.Read(io.NewSectionReader(f, int64(at), int64(entries)*8), binary.BigEndian, words)
}
