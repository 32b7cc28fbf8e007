package layer

import (
	"archive/tar"
	"errors"
	"io"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"banger.dev/banger"
)

// Read puts the next layer, an uncompressed tar, over those before it, and
// reads it to its end. content is called, unless it is nil, with each regular
// file's content at once, also if a later member hides it.
func (t *Tree) Read(r io.Reader, content func(*Node, io.Reader) error) error {
	t.layer++
	return members(r, func(number int, h *tar.Header, body io.Reader) error {
		n, err := t.add(h, at(t.layer, number))
		if err != nil || n == nil || content == nil {
			return err
		}
		return content(n, body)
	})
}

// Contents are the visible files that have content, in the order in which it
// comes when the layers are read again.
func (t *Tree) Contents() *Contents {
	c := &Contents{}
	for dirs := []*Node{t.Root}; len(dirs) > 0; {
		d := dirs[len(dirs)-1]
		dirs = dirs[:len(dirs)-1]
		for _, e := range d.children {
			switch {
			case e.node.Is(unix.S_IFDIR):
				dirs = append(dirs, e.node)
			case e.node.Is(unix.S_IFREG) && e.node.Size > 0:
				c.nodes = append(c.nodes, e.node)
			}
		}
	}
	slices.SortFunc(c.nodes, func(a, b *Node) int {
		if a.content < b.content {
			return -1
		}
		return min(1, int(a.content-b.content))
	})
	c.nodes = slices.Compact(c.nodes) // a hard link is no content more
	return c
}

// Contents is the second reading of a tree's layers.
type Contents struct {
	nodes []*Node
	layer int
}

// Read calls content with the content of each visible file of the next layer.
func (c *Contents) Read(r io.Reader, content func(*Node, io.Reader) error) error {
	layer := c.layer
	c.layer++
	return members(r, func(number int, h *tar.Header, body io.Reader) error {
		if len(c.nodes) == 0 || c.nodes[0].content != at(layer, number) {
			return nil
		}
		n := c.nodes[0]
		c.nodes = c.nodes[1:]
		if h.Size != n.Size {
			return banger.Errorf(banger.KindInternal, "%.100q is not what it was when the layer was read before", h.Name)
		}
		return content(n, body)
	})
}

// Needs tells whether the next layer has content that is visible.
func (c *Contents) Needs() bool {
	if len(c.nodes) > 0 && int(c.nodes[0].content>>32) == c.layer {
		return true
	}
	return false
}

// Skip passes over a layer that has nothing visible.
func (c *Contents) Skip() { c.layer++ }

// maxTrailer bounds what may follow the end of an archive: its padding.
const maxTrailer = 16 << 20

// members calls visit with each member of a tar, numbered from 1, and reads to
// the end of r.
func members(r io.Reader, visit func(number int, h *tar.Header, body io.Reader) error) error {
	archive := tar.NewReader(r)
	number := 0
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return broken(err)
		}
		number++
		if err := visit(number, h, archive); err != nil {
			return broken(err)
		}
	}
	n, err := io.CopyN(io.Discard, r, maxTrailer)
	if err == nil && n == maxTrailer {
		return banger.Errorf(banger.KindInvalid, "more than %s follow the end of the tar archive", banger.Bytes(maxTrailer))
	} else if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// broken says of errors of the tar format what they mean.
func broken(err error) error {
	var known *banger.Error
	if errors.As(err, &known) {
		return err
	}
	for _, e := range []error{tar.ErrHeader, tar.ErrFieldTooLong, io.ErrUnexpectedEOF} {
		if errors.Is(err, e) {
			return banger.Errorf(banger.KindInvalid, "this is not a whole tar archive: %w", err)
		}
	}
	return err
}

// add puts one member into the tree. It gives the node of a regular file.
func (t *Tree) add(h *tar.Header, content position) (*Node, error) {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil, nil
	}
	if err := t.count(h.Size); err != nil {
		return nil, err
	}
	dir, base, err := split(h.Name)
	if err != nil {
		return nil, err
	}
	if hidden, err := t.whiteOut(dir, base); hidden || err != nil {
		return nil, err
	}
	if base == "" {
		return nil, t.describeRoot(h)
	}
	parent, err := t.parent(h.Name, dir, h.ModTime.Unix())
	if err != nil {
		return nil, err
	}
	if h.Typeflag == tar.TypeLink {
		return nil, t.link(parent, base, h)
	}
	n, err := t.node(h)
	if err != nil {
		return nil, err
	}
	if old := parent.children[base].node; n.Is(unix.S_IFDIR) && old != nil && old.Is(unix.S_IFDIR) {
		n.children, n.Links = old.children, old.Links
		*old, n = *n, old
	}
	t.set(parent, base, n)
	if !n.Is(unix.S_IFREG) {
		return nil, nil
	}
	n.content = content
	return n, nil
}

func (t *Tree) describeRoot(h *tar.Header) error {
	n, err := t.node(h)
	if err != nil {
		return err
	}
	if !n.Is(unix.S_IFDIR) {
		return banger.Errorf(banger.KindInvalid, "the image's root is no directory")
	}
	n.children, n.Links = t.Root.children, t.Root.Links
	*t.Root = *n
	return nil
}

// link adds a name to a file that is there, in this layer or one below.
func (t *Tree) link(parent *Node, base string, h *tar.Header) error {
	dir, last, err := split(h.Linkname)
	if err != nil {
		return err
	}
	in, err := t.walk(dir, nil)
	if err != nil {
		return err
	}
	var n *Node
	if in != nil && in.Is(unix.S_IFDIR) {
		n = in.children[last].node
	}
	switch {
	case n == nil:
		return banger.Errorf(banger.KindInvalid, "%.100q is a hard link to %.100q, which is not there", h.Name, h.Linkname)
	case n.Is(unix.S_IFDIR):
		return banger.Errorf(banger.KindInvalid, "%.100q is a hard link to the directory %.100q", h.Name, h.Linkname)
	case n.Links >= maxLinks:
		return banger.Errorf(banger.KindInvalid, "%.100q has more than %d hard links", h.Linkname, maxLinks)
	}
	t.set(parent, base, n)
	return nil
}

// kinds are the types of file that a tar has.
var kinds = map[byte]uint32{
	tar.TypeReg: unix.S_IFREG, tar.TypeRegA: unix.S_IFREG, tar.TypeGNUSparse: unix.S_IFREG, tar.TypeCont: unix.S_IFREG, //nolint:staticcheck // old tars have TypeRegA
	tar.TypeDir: unix.S_IFDIR, tar.TypeSymlink: unix.S_IFLNK, tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK, tar.TypeFifo: unix.S_IFIFO,
}

// node is what a member's header describes.
func (t *Tree) node(h *tar.Header) (*Node, error) {
	kind, ok := kinds[h.Typeflag]
	if !ok {
		return nil, banger.Errorf(banger.KindInvalid, "%.100q is of the type %q, which no image has", h.Name, h.Typeflag)
	}
	if h.Uid < 0 || h.Gid < 0 || h.Uid > maxID || h.Gid > maxID {
		return nil, banger.Errorf(banger.KindInvalid, "%.100q belongs to %d:%d, which cannot be", h.Name, h.Uid, h.Gid)
	}
	n := &Node{
		Mode: kind | uint32(h.Mode)&0o7777, UID: uint32(h.Uid), GID: uint32(h.Gid),
		Mtime: h.ModTime.Unix(), Nsec: uint32(h.ModTime.Nanosecond()),
	}
	switch kind {
	case unix.S_IFREG:
		n.Size = h.Size
	case unix.S_IFDIR:
		n.Links, n.children = 2, map[string]entry{}
	case unix.S_IFLNK:
		if h.Linkname == "" || len(h.Linkname) > maxPath || strings.ContainsRune(h.Linkname, 0) {
			return nil, banger.Errorf(banger.KindInvalid, "%.100q is a symbolic link to %.100q, which cannot be", h.Name, h.Linkname)
		}
		n.Mode, n.Target = kind|0o777, strings.Clone(h.Linkname)
	case unix.S_IFCHR, unix.S_IFBLK:
		if h.Devmajor < 0 || h.Devmajor > maxMajor || h.Devminor < 0 || h.Devminor > maxMinor {
			return nil, banger.Errorf(banger.KindInvalid, "%.100q is the device %d:%d, which cannot be", h.Name, h.Devmajor, h.Devminor)
		}
		n.Rdev = unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))
	}
	if err := n.takeXattrs(h); err != nil {
		return nil, err
	}
	t.text += len(n.Target)
	for _, x := range n.Xattrs {
		t.text += len(x.Name) + len(x.Value)
	}
	if t.text > maxText {
		return nil, banger.Errorf(banger.KindInvalid, "the image's links and extended attributes take more than %s", banger.Bytes(maxText))
	}
	return n, nil
}

const (
	maxID    = 1<<32 - 2 // -1 is nobody at all
	maxMajor = 1<<12 - 1
	maxMinor = 1<<20 - 1
)

const (
	xattrRecord = "SCHILY.xattr."
	maxXattr    = 4096 // bytes of one, and of all of a file: what a block holds
)

// takeXattrs takes the extended attributes from a member's PAX records.
func (n *Node) takeXattrs(h *tar.Header) error {
	sum := 0
	for key, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(key, xattrRecord)
		if !ok || name == "" {
			continue
		}
		if sum += len(name) + len(value); len(name) > maxName || sum > maxXattr {
			return banger.Errorf(banger.KindInvalid, "%.100q has extended attributes of more than %d bytes", h.Name, maxXattr)
		}
		n.Xattrs = append(n.Xattrs, Xattr{Name: strings.Clone(name), Value: strings.Clone(value)})
	}
	slices.SortFunc(n.Xattrs, func(a, b Xattr) int { return strings.Compare(a.Name, b.Name) })
	return nil
}
