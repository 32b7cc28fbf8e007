package ext4

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/bits"
	"os"

	"banger.dev/banger"
)

// le is the byte order of everything in an ext4.
var le = binary.LittleEndian

// Where mke2fs has put what is read or changed here. Offsets are in bytes, and
// the kernel's Documentation/filesystems/ext4 has all of them.
const (
	superOffset = 1024
	superSize   = 1024
	superCRC    = 0x3fc

	descSize   = 64 // of a group's descriptor, with the feature 64bit
	inodeSize  = 256
	rootInode  = 2
	firstInode = 11 // lost+found, and then what we like

	inodeUninit = 1 // a group's inode bitmap is not on the disk: all free
	blockUninit = 2 // nor its block bitmap: only its own metadata is used
)

// skeleton is an empty file system as mke2fs has made it, with what the writer
// changes of it: the free blocks and inodes of its groups.
type skeleton struct {
	f     *os.File
	super []byte
	descs []byte
	seed  uint32 // of all checksums

	blocks         uint32
	blocksPerGroup uint32
	inodesPerGroup uint32
	bitmaps        map[uint32]bitmap // of blocks, by group
}

type bitmap []byte

func (b bitmap) set(i uint32)      { b[i/8] |= 1 << (i % 8) }
func (b bitmap) clear(i uint32)    { b[i/8] &^= 1 << (i % 8) }
func (b bitmap) has(i uint32) bool { return b[i/8]&(1<<(i%8)) != 0 }

// free counts the zeros among the first n bits.
func (b bitmap) free(n uint32) uint32 {
	used := 0
	for _, v := range b[:n/8] {
		used += bits.OnesCount8(v)
	}
	return n - uint32(used)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum is ext4's crc32c, which is not inverted at either end.
func checksum(seed uint32, parts ...[]byte) uint32 {
	for _, p := range parts {
		seed = ^crc32.Update(^seed, castagnoli, p)
	}
	return seed
}

func u32(v uint32) []byte { return le.AppendUint32(nil, v) }

// openSkeleton reads what mke2fs has made.
func openSkeleton(f *os.File) (*skeleton, error) {
	s := &skeleton{f: f, super: make([]byte, superSize), bitmaps: map[uint32]bitmap{}}
	if _, err := f.ReadAt(s.super, superOffset); err != nil {
		return nil, err
	}
	if le.Uint16(s.super[0x38:]) != 0xef53 || le.Uint32(s.super[0x18:]) != 2 || le.Uint16(s.super[0xfe:]) != descSize || le.Uint16(s.super[0x58:]) != inodeSize {
		return nil, banger.Errorf(banger.KindInternal, "mke2fs made something unexpected of %s", f.Name())
	}
	s.seed = checksum(^uint32(0), s.super[0x68:0x78])
	s.blocks = le.Uint32(s.super[0x04:])
	s.blocksPerGroup, s.inodesPerGroup = le.Uint32(s.super[0x20:]), le.Uint32(s.super[0x28:])
	s.descs = make([]byte, int(s.groups())*descSize)
	_, err := f.ReadAt(s.descs, blockSize)
	return s, err
}

func (s *skeleton) groups() uint32 { return (s.blocks + s.blocksPerGroup - 1) / s.blocksPerGroup }

func (s *skeleton) inodes() uint32 { return le.Uint32(s.super[0x00:]) }

// size is how many blocks a group has; the last may have fewer.
func (s *skeleton) size(group uint32) uint32 {
	return min(s.blocksPerGroup, s.blocks-group*s.blocksPerGroup)
}

func (s *skeleton) desc(group uint32) desc { return desc(s.descs[group*descSize:][:descSize]) }

// desc is a group's descriptor.
type desc []byte

func (d desc) blockBitmap() uint32 { return le.Uint32(d[0x00:]) }
func (d desc) inodeBitmap() uint32 { return le.Uint32(d[0x04:]) }
func (d desc) inodeTable() uint32  { return le.Uint32(d[0x08:]) }
func (d desc) flags() uint16       { return le.Uint16(d[0x12:]) }
func (d desc) is(flag uint16) bool { return d.flags()&flag != 0 }
func (d desc) clear(flag uint16)   { le.PutUint16(d[0x12:], d.flags()&^flag) }

// split sets a number whose halves lie apart.
func (d desc) split(low, high int, v uint32) {
	le.PutUint16(d[low:], uint16(v))
	le.PutUint16(d[high:], uint16(v>>16))
}

func (d desc) setFreeBlocks(n uint32)   { d.split(0x0c, 0x2c, n) }
func (d desc) setFreeInodes(n uint32)   { d.split(0x0e, 0x2e, n) }
func (d desc) setDirs(n uint32)         { d.split(0x10, 0x30, n) }
func (d desc) setUnusedInodes(n uint32) { d.split(0x1c, 0x32, n) }
func (d desc) setBlockCRC(n uint32)     { d.split(0x18, 0x38, n) }
func (d desc) setInodeCRC(n uint32)     { d.split(0x1a, 0x3a, n) }
func (d desc) freeBlocks() uint32 {
	return uint32(le.Uint16(d[0x0c:])) | uint32(le.Uint16(d[0x2c:]))<<16
}
func (d desc) freeInodes() uint32 {
	return uint32(le.Uint16(d[0x0e:])) | uint32(le.Uint16(d[0x2e:]))<<16
}

// hasSuper tells which groups begin with a copy of superblock and descriptors:
// 0, 1 and the powers of 3, 5 and 7.
func hasSuper(group uint32) bool {
	if group <= 1 {
		return true
	}
	for _, base := range []uint32{3, 5, 7} {
		n := group
		for n%base == 0 {
			n /= base
		}
		if n == 1 {
			return true
		}
	}
	return false
}

// bitmap is the block bitmap of a group, as it will be.
func (s *skeleton) bitmap(group uint32) (bitmap, error) {
	if b, ok := s.bitmaps[group]; ok {
		return b, nil
	}
	b, d := make(bitmap, blockSize), s.desc(group)
	if !d.is(blockUninit) {
		if _, err := s.f.ReadAt(b, int64(d.blockBitmap())*blockSize); err != nil {
			return nil, err
		}
	} else {
		if hasSuper(group) {
			tables := (s.groups()*descSize + blockSize - 1) / blockSize
			for i := range 1 + tables + uint32(le.Uint16(s.super[0xce:])) {
				b.set(i)
			}
		}
		for i := s.size(group); i < s.blocksPerGroup; i++ {
			b.set(i)
		}
	}
	s.bitmaps[group] = b
	return b, nil
}

// release frees blocks.
func (s *skeleton) release(start, n uint32) error {
	for block := start; block < start+n; block++ {
		b, err := s.bitmap(block / s.blocksPerGroup)
		if err != nil {
			return err
		}
		b.clear(block % s.blocksPerGroup)
	}
	return nil
}

// inodeOffset is where an inode lies in the file.
func (s *skeleton) inodeOffset(ino uint32) int64 {
	group, index := (ino-1)/s.inodesPerGroup, (ino-1)%s.inodesPerGroup
	return int64(s.desc(group).inodeTable())*blockSize + int64(index)*inodeSize
}

// empty frees the blocks of a directory of mke2fs's.
func (s *skeleton) empty(ino uint32) error {
	inode := make([]byte, inodeSize)
	if _, err := s.f.ReadAt(inode, s.inodeOffset(ino)); err != nil {
		return err
	}
	extents := inode[0x28:]
	if le.Uint16(extents) != extentMagic || le.Uint16(extents[6:]) != 0 {
		return fmt.Errorf("inode %d of a new file system is no list of extents", ino)
	}
	for i := range int(le.Uint16(extents[2:])) {
		e := extents[12+12*i:]
		if err := s.release(le.Uint32(e[8:]), uint32(le.Uint16(e[4:]))); err != nil {
			return err
		}
	}
	return nil
}

// close writes bitmaps, descriptors and superblock for the inodes up to last,
// of which dirs tells the directories for each group.
func (s *skeleton) close(last uint32, dirs map[uint32]uint32) error {
	for group := range s.groups() {
		d := s.desc(group)
		if err := s.closeBlocks(group, d); err != nil {
			return err
		}
		if err := s.closeInodes(group, d, last, dirs[group]); err != nil {
			return err
		}
		crc := checksum(s.seed, u32(group), d[:0x1e], []byte{0, 0}, d[0x20:])
		le.PutUint16(d[0x1e:], uint16(crc))
	}
	var blocks, inodes uint32
	for group := range s.groups() {
		blocks += s.desc(group).freeBlocks()
		inodes += s.desc(group).freeInodes()
	}
	le.PutUint32(s.super[0x0c:], blocks)
	le.PutUint32(s.super[0x10:], inodes)
	le.PutUint32(s.super[superCRC:], checksum(^uint32(0), s.super[:superCRC]))
	if _, err := s.f.WriteAt(s.descs, blockSize); err != nil {
		return err
	}
	_, err := s.f.WriteAt(s.super, superOffset)
	return err
}

func (s *skeleton) closeBlocks(group uint32, d desc) error {
	b, touched := s.bitmaps[group]
	if !touched {
		return nil
	}
	// Beyond the last block all is used.
	d.setFreeBlocks(b.free(s.blocksPerGroup))
	d.setBlockCRC(checksum(s.seed, b[:s.blocksPerGroup/8]))
	d.clear(blockUninit)
	_, err := s.f.WriteAt(b, int64(d.blockBitmap())*blockSize)
	return err
}

func (s *skeleton) closeInodes(group uint32, d desc, last, dirs uint32) error {
	first := group*s.inodesPerGroup + 1
	if first > last {
		return nil
	}
	used := min(last-first+1, s.inodesPerGroup)
	b := make(bitmap, blockSize)
	for i := range used {
		b.set(i)
	}
	copy(b[s.inodesPerGroup/8:], bytes.Repeat([]byte{0xff}, blockSize))
	d.setFreeInodes(s.inodesPerGroup - used)
	d.setUnusedInodes(s.inodesPerGroup - used)
	d.setDirs(dirs)
	d.setInodeCRC(checksum(s.seed, b[:s.inodesPerGroup/8]))
	d.clear(inodeUninit)
	_, err := s.f.WriteAt(b, int64(d.inodeBitmap())*blockSize)
	return err
}
