package depmod

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
)

// The binary index that libkmod reads (kmod, shared/… and libkmod-index.h): a
// trie of nodes. A node's offset carries in its top bits what the node has:
//
//	prefix     bytes, NUL        if indexPrefix
//	first,last byte, byte        if indexChildren, then
//	children   u32 × (last-first+1), 0 where there is none
//	count      u32               if indexValues, then count times
//	value      u32 priority, bytes, NUL
//
// All numbers are big endian.
const (
	indexMagic    = 0xb007f457
	indexVersion  = 0x00020001
	indexPrefix   = 0x80000000
	indexValues   = 0x40000000
	indexChildren = 0x20000000
)

// pair is a key and one of its values; of the values of one key the lower
// priority comes first.
type pair struct {
	key, value string
	priority   uint32
}

// writeIndex makes an index of pairs. Keys with bytes beyond ASCII, which the
// format cannot hold, are left out.
func writeIndex(pairs []pair) []byte {
	pairs = slices.DeleteFunc(slices.Clone(pairs), func(p pair) bool {
		return strings.ContainsFunc(p.key, func(c rune) bool { return c == 0 || c >= 0x80 })
	})
	slices.SortStableFunc(pairs, func(a, b pair) int {
		if c := strings.Compare(a.key, b.key); c != 0 {
			return c
		}
		return int(a.priority) - int(b.priority)
	})
	w := &indexWriter{}
	w.u32(indexMagic)
	w.u32(indexVersion)
	w.u32(0)
	root := w.node(pairs, 0)
	binary.BigEndian.PutUint32(w.Bytes()[8:], root)
	return w.Bytes()
}

type indexWriter struct{ bytes.Buffer }

func (w *indexWriter) u32(n uint32) {
	w.Write(binary.BigEndian.AppendUint32(nil, n))
}

func (w *indexWriter) text(s string) {
	w.WriteString(s)
	w.WriteByte(0)
}

// node writes the trie of sorted pairs, whose keys are equal in their first
// depth bytes, children first, and returns its offset with the flags.
func (w *indexWriter) node(pairs []pair, depth int) uint32 {
	end := depth + commonPrefix(pairs, depth)
	values := 0
	for values < len(pairs) && len(pairs[values].key) == end {
		values++
	}
	var offsets []uint32
	var first, last byte
	if rest := pairs[values:]; len(rest) > 0 {
		first, last = rest[0].key[end], rest[len(rest)-1].key[end]
		offsets = make([]uint32, int(last)-int(first)+1)
		for len(rest) > 0 {
			c := rest[0].key[end]
			n := 1
			for n < len(rest) && rest[n].key[end] == c {
				n++
			}
			offsets[c-first] = w.node(rest[:n], end+1)
			rest = rest[n:]
		}
	}
	offset := uint32(w.Len())
	if end > depth {
		offset |= indexPrefix
		w.text(pairs[0].key[depth:end])
	}
	if offsets != nil {
		offset |= indexChildren
		w.Write([]byte{first, last})
		for _, o := range offsets {
			w.u32(o)
		}
	}
	if values > 0 {
		offset |= indexValues
		w.u32(uint32(values))
		for _, p := range pairs[:values] {
			w.u32(p.priority)
			w.text(p.value)
		}
	}
	return offset
}

// commonPrefix is how many bytes after depth all keys share.
func commonPrefix(pairs []pair, depth int) int {
	if len(pairs) == 0 {
		return 0
	}
	a, b := pairs[0].key[depth:], pairs[len(pairs)-1].key[depth:] // sorted: these differ the most
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}
