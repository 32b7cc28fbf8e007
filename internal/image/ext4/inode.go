package ext4

import (
	"golang.org/x/sys/unix"

	"banger.dev/banger/internal/image/layer"
)

const (
	extentMagic = 0xf30a
	extentsFlag = 0x80000
	indexFlag   = 0x1000

	extraSize  = 32 // what an inode has behind its first 128 bytes
	xattrStart = 128 + extraSize

	shortLink = 60    // a longer target takes a block
	maxDirs   = 65000 // directories in one: beyond them its links are not counted
)

// inode writes an inode, and what hangs on it but the content of files.
func (w *writer) inode(n, parent *layer.Node) error {
	raw := make([]byte, inodeSize)
	size, flags, blocks := n.Size, uint32(extentsFlag), uint32(0)
	var err error
	switch {
	case n.Is(unix.S_IFDIR):
		var indexed bool
		if indexed, err = w.directory(n, parent); indexed {
			flags |= indexFlag
		}
		for _, r := range n.Runs {
			size += int64(r.Len) * blockSize
		}
	case n.Is(unix.S_IFLNK):
		size = int64(len(n.Target))
		if len(n.Target) >= shortLink {
			n.Runs, err = w.put(nil, 0, []byte(n.Target))
		}
	}
	if err != nil {
		return err
	}
	switch {
	case n.Is(unix.S_IFLNK) && len(n.Target) < shortLink:
		flags = 0
		copy(raw[0x28:], n.Target)
	case n.Is(unix.S_IFCHR), n.Is(unix.S_IFBLK):
		flags = 0
		putDevice(raw[0x28:], n.Rdev)
	case n.Is(unix.S_IFIFO):
		flags = 0
	default:
		if blocks, err = w.extents(raw[0x28:0x64], n); err != nil {
			return err
		}
	}
	for _, r := range n.Runs {
		blocks += r.Len
	}
	attributes, err := w.xattrs(raw, n)
	if err != nil {
		return err
	}
	w.describe(raw, n, size, flags, uint64(blocks+attributes))
	return w.table.write(w.inodeOffset(n.Ino), raw)
}

// describe fills in the fields of an inode.
func (w *writer) describe(raw []byte, n *layer.Node, size int64, flags uint32, blocks uint64) {
	le.PutUint16(raw[0x00:], uint16(n.Mode))
	le.PutUint16(raw[0x02:], uint16(n.UID))
	le.PutUint16(raw[0x18:], uint16(n.GID))
	le.PutUint16(raw[0x78:], uint16(n.UID>>16))
	le.PutUint16(raw[0x7a:], uint16(n.GID>>16))
	le.PutUint32(raw[0x04:], uint32(size))
	le.PutUint32(raw[0x6c:], uint32(uint64(size)>>32))
	links := n.Links
	if n.Is(unix.S_IFDIR) && links >= maxDirs {
		links = 1
	}
	le.PutUint16(raw[0x1a:], uint16(links))
	sectors := blocks * (blockSize / 512)
	le.PutUint32(raw[0x1c:], uint32(sectors))
	le.PutUint16(raw[0x74:], uint16(sectors>>32))
	le.PutUint32(raw[0x20:], flags)
	le.PutUint16(raw[0x80:], extraSize)
	seconds, extra := timestamp(n.Mtime, n.Nsec)
	for _, at := range [][2]int{{0x08, 0x8c}, {0x0c, 0x84}, {0x10, 0x88}, {0x90, 0x94}} {
		le.PutUint32(raw[at[0]:], seconds)
		le.PutUint32(raw[at[1]:], extra)
	}
	crc := checksum(w.inodeSeed(n.Ino), raw)
	le.PutUint16(raw[0x7c:], uint16(crc))
	le.PutUint16(raw[0x82:], uint16(crc>>16))
}

// inodeSeed begins the checksums of all that belongs to an inode. Its
// generation is 0.
func (w *writer) inodeSeed(ino uint32) uint32 { return checksum(w.seed, u32(ino), u32(0)) }

// timestamp is a time as an inode has it, moved to what it can hold: from 1901
// to 2446.
func timestamp(seconds int64, nsec uint32) (low, extra uint32) {
	const first, last = -1 << 31, 1<<34 - 1<<31 - 1
	seconds = max(first, min(last, seconds))
	epoch := uint32((seconds-int64(int32(seconds)))>>32) & 3
	return uint32(seconds), nsec<<2 | epoch
}

// putDevice is a device's number: the old form where it fits.
func putDevice(p []byte, rdev uint64) {
	major, minor := unix.Major(rdev), unix.Minor(rdev)
	if major < 256 && minor < 256 {
		le.PutUint32(p, major<<8|minor)
		return
	}
	le.PutUint32(p[4:], minor&0xff|major<<8|minor&^0xff<<12)
}

const (
	inodeExtents = 4                     // that fit in an inode
	blockExtents = (blockSize - 12) / 12 // in a block, whose last 4 bytes are its checksum
	extentCRC    = 12 + blockExtents*12  // where that lies
)

// extents writes the map of a node's content to the 60 bytes in its inode. It
// gives the number of further blocks that it took.
func (w *writer) extents(inode []byte, n *layer.Node) (blocks uint32, err error) {
	type item struct {
		logical uint32
		raw     [12]byte
	}
	items := make([]item, len(n.Runs))
	for i, r := range n.Runs {
		items[i].logical = r.Logical
		le.PutUint32(items[i].raw[0:], r.Logical)
		le.PutUint16(items[i].raw[4:], uint16(r.Len))
		le.PutUint32(items[i].raw[8:], r.Start)
	}
	fill := func(p []byte, items []item, room, depth int) {
		le.PutUint16(p[0:], extentMagic)
		le.PutUint16(p[2:], uint16(len(items)))
		le.PutUint16(p[4:], uint16(room))
		le.PutUint16(p[6:], uint16(depth))
		for i, it := range items {
			copy(p[12+12*i:], it.raw[:])
		}
	}
	depth := 0
	for ; len(items) > inodeExtents; depth++ {
		var above []item
		for len(items) > 0 {
			part := items[:min(len(items), blockExtents)]
			items = items[len(part):]
			p := make([]byte, blockSize)
			fill(p, part, blockExtents, depth)
			le.PutUint32(p[extentCRC:], checksum(w.inodeSeed(n.Ino), p[:extentCRC]))
			run, err := w.put(nil, 0, p)
			if err != nil {
				return 0, err
			}
			blocks++
			up := item{logical: part[0].logical}
			le.PutUint32(up.raw[0:], up.logical)
			le.PutUint32(up.raw[4:], run[0].Start)
			above = append(above, up)
		}
		items = above
	}
	fill(inode, items, inodeExtents, depth)
	return blocks, nil
}
