package qcow2

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"banger.dev/banger"
)

// headerStart is as much of the header as Grow changes. It lies in one sector of
// any disk, so that one write changes all of it or nothing.
const headerStart = 48

// Grow implements disk.Driver. The L1 table has a cluster of its own, which has
// room for the largest disk there is, also where QEMU has moved it. First its new
// entries are emptied, then the header tells of them.
func (Driver) Grow(_ context.Context, path string, size banger.Bytes) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var h header
	if err := binary.Read(f, binary.BigEndian, &h); err != nil {
		return fmt.Errorf("%s: read its header: %w", path, err)
	}
	if h.Size >= uint64(size) {
		return nil
	}
	if err := h.growable(uint64(size)); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	entries := l1Entries(uint64(size))
	if more := int64(entries) - int64(h.L1Size); more > 0 {
		if _, err := f.WriteAt(make([]byte, more*l1EntrySize), int64(h.L1TableOffset)+int64(h.L1Size)*l1EntrySize); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		h.L1Size = uint32(entries)
	}
	h.Size = uint64(size)
	start := make([]byte, headerLength)
	if _, err := binary.Encode(start, binary.BigEndian, h); err != nil {
		return err
	}
	if _, err := f.WriteAt(start[:headerStart], 0); err != nil {
		return err
	}
	return f.Sync()
}

// growable refuses what was not made by Create, or is damaged: a guest has had
// a VMM write to it.
func (h header) growable(size uint64) error {
	switch {
	case h.Magic != magic || h.Version != 3 || h.ClusterBits != clusterBits || h.HeaderLength < headerLength:
		return errors.New("it is no overlay of banger's")
	case h.IncompatibleFeatures != incompatExtendedL2 || h.NbSnapshots != 0:
		return fmt.Errorf("it has features that it was not made with (%#x, %d snapshots): qemu-img check", h.IncompatibleFeatures, h.NbSnapshots)
	case h.L1TableOffset == 0 || h.L1TableOffset%clusterSize != 0 || uint64(h.L1Size)*l1EntrySize > clusterSize:
		return fmt.Errorf("its table is at %d, of %d entries: qemu-img check", h.L1TableOffset, h.L1Size)
	case l1Entries(size)*l1EntrySize > clusterSize:
		return banger.Errorf(banger.KindInvalid, "%s is more than a disk can have", banger.Bytes(size))
	}
	return nil
}
