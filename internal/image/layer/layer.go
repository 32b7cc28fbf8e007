// Package layer decides what a stack of tar layers makes visible: a tree of
// names and metadata, with whiteouts, opaque directories, hard links across
// layers and replaced types settled as OCI's image specification has it. It
// keeps no contents and touches no disk; whoever writes the tree down is told
// where each file's content is.
//
// Every layer is hostile. A member lands inside the tree or is refused, and
// what a tree may hold is bounded by Limits.
package layer

import (
	"strings"

	"golang.org/x/sys/unix"

	"banger.dev/banger"
)

// Limits bound what the layers of one image may hold.
type Limits struct {
	Entries int          // members of all layers, and the directories that they imply
	Size    banger.Bytes // of all files' contents, holes included
}

// DefaultLimits are for who sets none.
func DefaultLimits() Limits { return Limits{Entries: 1_000_000, Size: 64 * banger.GiB} }

const (
	maxName   = 255       // bytes of a name, as the kernel's
	maxPath   = 4095      // bytes of a path, as the kernel's
	maxLinks  = 65000     // names of a file, as ext4's
	maxFollow = 40        // symbolic links on the way to a file, as the kernel's
	maxText   = 128 << 20 // bytes of links' targets and extended attributes together
)

// Node is a file of any type. It may have several names.
type Node struct {
	Mode   uint32 // type and permissions, as in stat(2)
	UID    uint32
	GID    uint32
	Nsec   uint32
	Mtime  int64 // seconds
	Size   int64 // of a regular file
	Rdev   uint64
	Target string // of a symbolic link
	Xattrs []Xattr
	Links  int // names; of a directory 2 and one for each directory in it

	// Ino and Runs are the writer's own.
	Ino  uint32
	Runs []Run

	content  position
	children map[string]entry // of a directory
}

// Run is a part of a file's content that lies in one piece on a disk.
type Run struct{ Logical, Start, Len uint32 }

// Xattr is an extended attribute, its name whole ("user.x").
type Xattr struct{ Name, Value string }

// entry is a name in a directory.
type entry struct {
	node  *Node
	layer int32 // the last to say something of this name
}

// position is where a file's content is: the member with this number in this
// layer. The zero value is no member.
type position uint64

func at(layer, member int) position { return position(layer)<<32 | position(member) }

// Is tells whether n is of a type such as unix.S_IFDIR.
func (n *Node) Is(kind uint32) bool { return n.Mode&unix.S_IFMT == kind }

// Children are the names in a directory, in no order.
func (n *Node) Children(yield func(name string, child *Node) bool) {
	for name, e := range n.children {
		if !yield(name, e.node) {
			return
		}
	}
}

// Len is how many names a directory has.
func (n *Node) Len() int { return len(n.children) }

// Child is what a name in a directory stands for, or nil.
func (n *Node) Child(name string) *Node { return n.children[name].node }

// Tree is what the layers that were read make visible.
type Tree struct {
	Root *Node
	// Drop is called, unless it is nil, with a file whose last name is gone.
	Drop func(*Node)

	limits  Limits
	entries int
	size    int64
	text    int
	layer   int
}

// New is an empty tree.
func New(limits Limits) *Tree {
	return &Tree{Root: newDir(0), limits: limits, layer: -1}
}

// newDir is a directory that no member has described yet.
func newDir(mtime int64) *Node {
	return &Node{Mode: unix.S_IFDIR | 0o755, Mtime: mtime, Links: 2, children: map[string]entry{}}
}

// set gives a name in dir to a node, whatever had it before.
func (t *Tree) set(dir *Node, name string, n *Node) {
	old, had := dir.children[name]
	if !had {
		name = strings.Clone(name) // it is a part of a whole path
	}
	dir.children[name] = entry{node: n, layer: int32(t.layer)}
	switch {
	case !n.Is(unix.S_IFDIR):
		n.Links++
	case old.node != n:
		dir.Links++
	}
	if had && old.node != n {
		t.unlink(dir, old.node)
	} else if had && !n.Is(unix.S_IFDIR) {
		n.Links--
	}
}

// remove takes a name out of dir.
func (t *Tree) remove(dir *Node, name string) {
	old := dir.children[name].node
	delete(dir.children, name)
	t.unlink(dir, old)
}

// unlink does what is to be done when dir has one name less for n.
func (t *Tree) unlink(dir, n *Node) {
	if !n.Is(unix.S_IFDIR) {
		if n.Links--; n.Links == 0 && t.Drop != nil {
			t.Drop(n)
		}
		return
	}
	dir.Links--
	// Not by recursion: a hostile tree may be deep.
	for below := []*Node{n}; len(below) > 0; {
		d := below[len(below)-1]
		below = below[:len(below)-1]
		for _, e := range d.children {
			if e.node.Is(unix.S_IFDIR) {
				below = append(below, e.node)
			} else if e.node.Links--; e.node.Links == 0 && t.Drop != nil {
				t.Drop(e.node)
			}
		}
		d.children = nil
	}
}

// AddDir adds a directory to the root that no layer has.
func (t *Tree) AddDir(name string, mode uint32) {
	n := newDir(t.Root.Mtime)
	n.Mode = unix.S_IFDIR | mode
	t.set(t.Root, name, n)
}
