package ext4

import (
	"cmp"
	"slices"

	"golang.org/x/sys/unix"

	"banger.dev/banger"
	"banger.dev/banger/internal/image/layer"
)

// link is a name in a directory.
type link struct {
	name string
	node *layer.Node
	hash uint32
}

// fileTypes are those of directory entries.
var fileTypes = map[uint32]byte{
	unix.S_IFREG: 1, unix.S_IFDIR: 2, unix.S_IFCHR: 3, unix.S_IFBLK: 4, unix.S_IFIFO: 5, unix.S_IFLNK: 7,
}

// entrySize is what an entry with a name of n bytes takes.
func entrySize(n int) int { return (8 + n + 3) &^ 3 }

// leafSpace is what entries may take in a block, whose last entry holds its
// checksum.
const leafSpace = blockSize - 12

// directory writes a directory's blocks. It tells whether they have an index,
// as those of more than one block do.
func (w *writer) directory(n, parent *layer.Node) (indexed bool, err error) {
	links := make([]link, 0, n.Len())
	size := entrySize(1) + entrySize(2)
	for _, name := range names(n) {
		links = append(links, link{name: name, node: n.Child(name)})
		size += entrySize(len(name))
	}
	var blocks []byte
	if size <= leafSpace {
		dots := []link{{name: ".", node: n}, {name: "..", node: parent}}
		blocks = w.leaf(n, append(dots, links...))
	} else if blocks, err = w.indexed(n, parent, links); err != nil {
		return false, err
	}
	n.Runs, err = w.put(nil, 0, blocks)
	return size > leafSpace, err
}

// leaf is a block of entries.
func (w *writer) leaf(dir *layer.Node, links []link) []byte {
	p := make([]byte, blockSize)
	at := 0
	for i, l := range links {
		size := entrySize(len(l.name))
		if i == len(links)-1 {
			size = leafSpace - at
		}
		putEntry(p[at:], l, size)
		at += size
	}
	le.PutUint16(p[leafSpace+4:], 12)
	p[leafSpace+7] = 0xde
	le.PutUint32(p[leafSpace+8:], checksum(w.inodeSeed(dir.Ino), p[:leafSpace]))
	return p
}

func putEntry(p []byte, l link, size int) {
	le.PutUint32(p[0:], l.node.Ino)
	le.PutUint16(p[4:], uint16(size))
	p[6], p[7] = byte(len(l.name)), fileTypes[l.node.Mode&unix.S_IFMT]
	copy(p[8:], l.name)
}

const (
	rootIndex = 0x20 // where the index begins in a directory's first block
	nodeIndex = 0x08 // and in others
	rootRoom  = (blockSize - rootIndex - 8) / 8
	nodeRoom  = (blockSize - nodeIndex - 8) / 8
)

// pointer is an entry of an index: the blocks from hash on are at block.
type pointer struct{ hash, block uint32 }

// indexed is a directory with a hash tree: its root, where one level is not
// enough the nodes of a second, and the leaves.
func (w *writer) indexed(dir, parent *layer.Node, links []link) ([]byte, error) {
	for i := range links {
		links[i].hash = w.hash(links[i].name)
	}
	slices.SortFunc(links, func(a, b link) int { return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.name, b.name)) })
	leaves, pointers := w.leaves(dir, links)
	nodes := 0
	if len(pointers) > rootRoom {
		nodes = (len(pointers) + nodeRoom - 1) / nodeRoom
	}
	if nodes > rootRoom {
		return nil, banger.Errorf(banger.KindInvalid, "a directory of the image has %d names, more than ext4's index holds", len(links))
	}
	for i := range pointers {
		pointers[i].block += uint32(1 + nodes)
	}
	var below []byte
	if nodes > 0 {
		var above []pointer
		for part := range slices.Chunk(pointers, nodeRoom) {
			above = append(above, pointer{part[0].hash, uint32(1 + len(above))})
			p := make([]byte, blockSize)
			le.PutUint16(p[4:], blockSize)
			w.putIndex(p, nodeIndex, nodeRoom, part, dir)
			below = append(below, p...)
		}
		pointers = above
	}
	root := make([]byte, blockSize)
	putEntry(root, link{name: ".", node: dir}, 12)
	putEntry(root[12:], link{name: "..", node: parent}, blockSize-12)
	root[0x1c], root[0x1d] = w.super[0xfc], 8 // the hash's version, the length of this
	if nodes > 0 {
		root[0x1e] = 1
	}
	w.putIndex(root, rootIndex, rootRoom, pointers, dir)
	return slices.Concat(root, below, leaves), nil
}

// leaves are the blocks of sorted links, and what an index says of them, with
// blocks counted from 0.
func (w *writer) leaves(dir *layer.Node, links []link) (blocks []byte, index []pointer) {
	for len(links) > 0 {
		n, size := 0, 0
		for n < len(links) && size+entrySize(len(links[n].name)) <= leafSpace {
			size += entrySize(len(links[n].name))
			n++
		}
		p := pointer{hash: links[0].hash, block: uint32(len(index))}
		if len(index) == 0 {
			p.hash = 0
		}
		blocks, index = append(blocks, w.leaf(dir, links[:n])...), append(index, p)
		if n < len(links) && links[n].hash == links[n-1].hash {
			links[n].hash |= 1 // a hash that goes on here has this bit
		}
		links = links[n:]
	}
	return blocks, index
}

// putIndex fills the index of a block: its room, its length, then the pointers,
// the first without a hash; behind the room lies the checksum.
func (w *writer) putIndex(p []byte, at, room int, pointers []pointer, dir *layer.Node) {
	for i, ptr := range pointers {
		le.PutUint32(p[at+8*i:], ptr.hash)
		le.PutUint32(p[at+8*i+4:], ptr.block)
	}
	le.PutUint16(p[at:], uint16(room))
	le.PutUint16(p[at+2:], uint16(len(pointers)))
	end := at + 8*room
	crc := checksum(w.inodeSeed(dir.Ino), p[:at+8*len(pointers)], p[end:end+4], u32(0))
	le.PutUint32(p[end+4:], crc)
}
