package layer

import (
	"strings"

	"golang.org/x/sys/unix"

	"banger.dev/banger"
)

// How OCI layers say that something of the layers below is gone.
const (
	whiteout = ".wh."
	reserved = ".wh..wh." // AUFS's own files
	opaque   = ".wh..wh..opq"
)

// whiteOut does what a whiteout file says, and tells whether the member is one.
// It counts against the layers below alone, wherever in its layer it comes.
func (t *Tree) whiteOut(dir []string, base string) (bool, error) {
	for _, part := range dir {
		if strings.HasPrefix(part, reserved) {
			return true, nil
		}
	}
	if !strings.HasPrefix(base, whiteout) {
		return false, nil
	}
	gone := strings.TrimPrefix(base, whiteout)
	if gone == "" || gone == "." || gone == ".." {
		return true, banger.Errorf(banger.KindInvalid, "the whiteout %q names nothing", base)
	}
	in, err := t.walk(dir, nil)
	if err != nil || in == nil || !in.Is(unix.S_IFDIR) {
		return true, err
	}
	switch {
	case base == opaque:
		t.clear(in)
	case !strings.HasPrefix(base, reserved):
		if e, ok := in.children[gone]; ok && (!e.node.Is(unix.S_IFDIR) || !t.clear(e.node)) && int(e.layer) < t.layer {
			t.remove(in, gone)
		}
	}
	return true, nil
}

// clear removes from top and below what is of lower layers, and tells whether
// something is left. A directory stays if something in it does.
func (t *Tree) clear(top *Node) (left bool) {
	// Directories, each before those in it, so that the way back is from the
	// deepest up.
	dirs := []*Node{top}
	for i := 0; i < len(dirs); i++ {
		for _, e := range dirs[i].children {
			if e.node.Is(unix.S_IFDIR) {
				dirs = append(dirs, e.node)
			}
		}
	}
	for i := len(dirs) - 1; i >= 0; i-- {
		for name, e := range dirs[i].children {
			if int(e.layer) < t.layer && len(e.node.children) == 0 {
				t.remove(dirs[i], name)
			}
		}
	}
	return len(top.children) > 0
}
