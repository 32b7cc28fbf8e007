package ext4

import (
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"banger.dev/banger"
	"banger.dev/banger/internal/image/layer"
)

// finish writes the tree, whose contents are written.
func (w *writer) finish(t *layer.Tree) error {
	if err := addLostAndFound(t); err != nil {
		return err
	}
	nodes := number(t.Root)
	last := uint32(len(nodes)) - 1 + firstInode - 1
	if last > w.inodes() {
		return banger.Errorf(banger.KindInvalid, "the image has %d files, and a disk of %s holds at most %d", len(nodes), banger.Bytes(w.blocks)*blockSize, w.inodes()-firstInode)
	}
	dirs := map[uint32]uint32{}
	for _, n := range nodes {
		if n.node.Is(unix.S_IFDIR) {
			dirs[(n.node.Ino-1)/w.inodesPerGroup]++
		}
		if err := w.inode(n.node, n.parent); err != nil {
			return err
		}
	}
	if err := w.data.flush(); err != nil {
		return err
	}
	if err := w.table.flush(); err != nil {
		return err
	}
	return w.close(last, dirs)
}

// addLostAndFound sees to the directory that e2fsck wants.
func addLostAndFound(t *layer.Tree) error {
	n := t.Root.Child("lost+found")
	if n != nil && !n.Is(unix.S_IFDIR) {
		return banger.Errorf(banger.KindInvalid, "/lost+found of the image is no directory, and ext4 needs one there")
	}
	if n == nil {
		t.AddDir("lost+found", 0o700)
	}
	return nil
}

// numbered is an inode of the tree and, of a directory, the one above it.
type numbered struct{ node, parent *layer.Node }

// number gives every file its inode: lost+found the first, then directory by
// directory, so that what is read together lies together.
func number(root *layer.Node) []numbered {
	root.Ino = rootInode
	list := []numbered{{root, root}}
	next := uint32(firstInode)
	visit := func(n, parent *layer.Node) {
		if n.Ino == 0 {
			n.Ino = next
			next++
			list = append(list, numbered{n, parent})
		}
	}
	visit(root.Child("lost+found"), root)
	for i := 0; i < len(list); i++ {
		dir := list[i].node
		for _, name := range names(dir) {
			visit(dir.Child(name), dir)
		}
	}
	return list
}

// names are those in a directory, sorted.
func names(dir *layer.Node) []string {
	list := make([]string, 0, dir.Len())
	for name := range dir.Children {
		list = append(list, name)
	}
	slices.SortFunc(list, strings.Compare)
	return list
}
