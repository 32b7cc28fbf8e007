// Package qcow2 makes overlays as QEMU's qcow2 images with a backing file. It
// writes the few metadata clusters of an empty image itself, which takes no
// process and a millisecond; QEMU does the rest. The format is described in
// docs/interop/qcow2.txt of QEMU's sources.
package qcow2

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"banger.dev/banger"
	"banger.dev/banger/internal/disk"
)

// Driver implements disk.Driver. The zero value is ready.
type Driver struct{}

// Name implements disk.Driver.
func (Driver) Name() string { return "qcow2" }

// Ext implements disk.Driver.
func (Driver) Ext() string { return "qcow2" }

// Geometry. Extended L2 entries split a cluster in 32 subclusters of 4 KiB, the
// guest's own block size: a small write copies nothing from the base.
const (
	clusterBits   = 17
	clusterSize   = 1 << clusterBits
	l1EntrySize   = 8
	l2EntrySize   = 16
	perL1Entry    = clusterSize / l2EntrySize * clusterSize // bytes of disk an L1 entry maps
	headerLength  = 104
	maxBackingLen = 1023 // of the name, by the format
)

// Feature bits and extensions of the header.
const (
	incompatExtendedL2 = 1 << 4
	extBackingFormat   = 0xE2792ACA
	refcountOrder      = 4 // 16 bits
)

// magic begins every qcow2 file.
var magic = [4]byte{'Q', 'F', 'I', 0xfb}

// header is the qcow2 header, version 3, big endian on disk.
type header struct {
	Magic                 [4]byte
	Version               uint32
	BackingFileOffset     uint64
	BackingFileSize       uint32
	ClusterBits           uint32
	Size                  uint64
	CryptMethod           uint32
	L1Size                uint32
	L1TableOffset         uint64
	RefcountTableOffset   uint64
	RefcountTableClusters uint32
	NbSnapshots           uint32
	SnapshotsOffset       uint64
	IncompatibleFeatures  uint64
	CompatibleFeatures    uint64
	AutoclearFeatures     uint64
	RefcountOrder         uint32
	HeaderLength          uint32
}

// Create implements disk.Driver.
func (Driver) Create(_ context.Context, base disk.Base, path string, size banger.Bytes) error {
	if size < base.Size {
		return banger.Errorf(banger.KindInvalid, "a disk of %s is smaller than its base of %s", size, base.Size)
	}
	clusters, err := empty(base.Path, uint64(size))
	if err != nil {
		return err
	}
	return write(path, clusters)
}

// empty is the content of the metadata clusters: header, refcount table,
// refcount block, L1 table.
func empty(backing string, size uint64) (map[int64][]byte, error) {
	if len(backing) > maxBackingLen {
		return nil, fmt.Errorf("the path of the base is %d bytes long, qcow2 holds %d: %s", len(backing), maxBackingLen, backing)
	}
	const (
		refTableAt = 1 * clusterSize
		refBlockAt = 2 * clusterSize
		l1At       = 3 * clusterSize
	)
	l1Clusters := (l1Entries(size)*l1EntrySize + clusterSize - 1) / clusterSize

	var head bytes.Buffer
	ext := extension(extBackingFormat, "raw")
	h := header{
		Magic: magic, Version: 3,
		BackingFileOffset: uint64(headerLength + len(ext)), BackingFileSize: uint32(len(backing)),
		ClusterBits: clusterBits, Size: size,
		L1Size: uint32(l1Entries(size)), L1TableOffset: l1At,
		RefcountTableOffset: refTableAt, RefcountTableClusters: 1,
		IncompatibleFeatures: incompatExtendedL2, RefcountOrder: refcountOrder, HeaderLength: headerLength,
	}
	if err := binary.Write(&head, binary.BigEndian, h); err != nil {
		return nil, err
	}
	head.Write(ext)
	head.WriteString(backing)

	refs := make([]byte, 2*(3+l1Clusters))
	for i := 0; i < len(refs); i += 2 {
		binary.BigEndian.PutUint16(refs[i:], 1)
	}
	return map[int64][]byte{
		0:                                        head.Bytes(),
		refTableAt:                               binary.BigEndian.AppendUint64(nil, refBlockAt),
		refBlockAt:                               refs,
		l1At + int64(l1Clusters)*clusterSize - 1: {0}, // the L1 table is all zeros: extend the file over it
	}, nil
}

// l1Entries is how many entries the L1 table of a disk has.
func l1Entries(size uint64) uint64 { return (size + perL1Entry - 1) / perL1Entry }

// extension is a header extension, padded to 8 bytes, and the end mark.
func extension(kind uint32, data string) []byte {
	b := binary.BigEndian.AppendUint32(nil, kind)
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	b = append(b, data...)
	for len(b)%8 != 0 {
		b = append(b, 0)
	}
	return append(b, make([]byte, 8)...)
}

func write(path string, clusters map[int64][]byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}()
	for at, b := range clusters {
		if _, err := f.WriteAt(b, at); err != nil {
			return err
		}
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// Attach implements disk.Driver.
func (Driver) Attach(_ context.Context, base disk.Base, path string) (disk.Attached, error) {
	if err := check(path); err != nil {
		return disk.Attached{}, err
	}
	return disk.Attached{Path: path, Format: "qcow2", Backing: base.Path, BackingFormat: "raw"}, nil
}

// Remove implements disk.Driver.
func (Driver) Remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
