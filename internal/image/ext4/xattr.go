package ext4

import (
	"cmp"
	"math/bits"
	"slices"
	"strings"

	"banger.dev/banger"
	"banger.dev/banger/internal/image/layer"
)

const xattrMagic = 0xea020000

// prefixes are those that ext4 writes as a number. The two ACLs are whole names.
var prefixes = []struct {
	prefix string
	index  byte
}{
	{"user.", 1}, {posixAccess, 2}, {posixDefault, 3}, {"trusted.", 4}, {"security.", 6}, {"system.", 7},
}

const (
	posixAccess  = "system.posix_acl_access"
	posixDefault = "system.posix_acl_default"
)

// attribute is an extended attribute as it lies on the disk.
type attribute struct {
	index byte
	name  string
	value []byte
}

// xattrs writes a node's attributes into its inode, or if they are too many
// into a block, of which it gives the number.
func (w *writer) xattrs(raw []byte, n *layer.Node) (blocks uint32, err error) {
	if len(n.Xattrs) == 0 {
		return 0, nil
	}
	list, err := attributes(n)
	if err != nil {
		return 0, err
	}
	const inodeHeader, blockHeader = 4, 32
	if area := raw[xattrStart+inodeHeader:]; putAttributes(area, list, area, false) {
		le.PutUint32(raw[xattrStart:], xattrMagic)
		return 0, nil
	}
	p := make([]byte, blockSize)
	if !putAttributes(p[blockHeader:], list, p, true) {
		return 0, banger.Errorf(banger.KindInvalid, "the extended attributes of a file (%.100s…) do not fit in a block of %d bytes", list[0].name, blockSize)
	}
	le.PutUint32(p[0:], xattrMagic)
	le.PutUint32(p[4:], 1) // references
	le.PutUint32(p[8:], 1) // blocks
	run, err := w.reserve()
	if err != nil {
		return 0, err
	}
	le.PutUint32(p[16:], checksum(w.seed, u32(run), u32(0), p))
	le.PutUint32(raw[0x68:], run)
	return 1, w.data.write(int64(run)*blockSize, p)
}

// reserve takes one block, to be written by the caller.
func (w *writer) reserve() (uint32, error) {
	block, _, err := w.allocate(1)
	return block, err
}

// attributes are a node's, in the order that ext4 wants.
func attributes(n *layer.Node) ([]attribute, error) {
	var list []attribute
	for _, x := range n.Xattrs {
		a := attribute{value: []byte(x.Value)}
		for _, p := range prefixes {
			if name, ok := strings.CutPrefix(x.Name, p.prefix); ok {
				a.index, a.name = p.index, name
				break
			}
		}
		if a.index == 0 {
			return nil, banger.Errorf(banger.KindInvalid, "the extended attribute %.100q is of no kind that ext4 has", x.Name)
		}
		if x.Name == posixAccess || x.Name == posixDefault {
			var err error
			if a.value, err = diskACL(x.Value); err != nil {
				return nil, err
			}
		}
		list = append(list, a)
	}
	slices.SortFunc(list, func(a, b attribute) int {
		return cmp.Or(cmp.Compare(a.index, b.index), cmp.Compare(len(a.name), len(b.name)), cmp.Compare(a.name, b.name))
	})
	return list, nil
}

// putAttributes writes entries from the beginning of area and values from its
// end; offsets of values count from the beginning of base. It tells whether they fit.
func putAttributes(area []byte, list []attribute, base []byte, hashed bool) bool {
	at, end := 0, len(area)
	for _, a := range list {
		size := (16 + len(a.name) + 3) &^ 3
		padded := (len(a.value) + 3) &^ 3
		if at+size+4 > end-padded { // 4 zeros end the entries
			return false
		}
		end -= padded
		e := area[at:]
		e[0], e[1] = byte(len(a.name)), a.index
		if len(a.value) > 0 {
			le.PutUint16(e[2:], uint16(end+len(base)-len(area)))
		}
		le.PutUint32(e[8:], uint32(len(a.value)))
		copy(e[16:], a.name)
		copy(area[end:], a.value)
		if hashed {
			le.PutUint32(e[12:], attributeHash(a.name, area[end:end+padded]))
		}
		at += size
	}
	return true
}

func attributeHash(name string, value []byte) (h uint32) {
	for i := range len(name) {
		h = bits.RotateLeft32(h, 5) ^ uint32(name[i])
	}
	for ; len(value) > 0; value = value[4:] {
		h = bits.RotateLeft32(h, 16) ^ le.Uint32(value)
	}
	return h
}

// diskACL is an ACL in ext4's form, which has ids only where they mean something.
func diskACL(value string) ([]byte, error) {
	p := []byte(value)
	if len(p) < 4 || le.Uint32(p) != 2 || len(p)%8 != 4 {
		return nil, banger.Errorf(banger.KindInvalid, "a file of the image has an ACL that is none")
	}
	const user, group = 0x02, 0x08 // tags of entries for one user or group
	out := u32(1)
	for p = p[4:]; len(p) > 0; p = p[8:] {
		out = append(out, p[:4]...)
		if tag := le.Uint16(p); tag == user || tag == group {
			out = append(out, p[4:8]...)
		}
	}
	return out, nil
}
