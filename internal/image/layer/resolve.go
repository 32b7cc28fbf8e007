package layer

import (
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"banger.dev/banger"
)

// split is the directory and the last part of a member's name. A name that
// could lead out is refused; a leading slash means the root of the tree.
func split(name string) (dir []string, base string, err error) {
	if strings.ContainsRune(name, 0) {
		return nil, "", banger.Errorf(banger.KindInvalid, "the name %.100q holds a NUL", name)
	}
	var parts []string
	for part := range strings.SplitSeq(name, "/") {
		switch {
		case part == "" || part == ".":
		case part == "..":
			return nil, "", banger.Errorf(banger.KindInvalid, "the name %.100q leads out of the image", name)
		case len(part) > maxName:
			return nil, "", banger.Errorf(banger.KindInvalid, "the name %.100q has a part of %d bytes, at most %d can be", name, len(part), maxName)
		default:
			parts = append(parts, part)
		}
	}
	if len(name) > maxPath {
		return nil, "", banger.Errorf(banger.KindInvalid, "the name %.100q… is %d bytes long, at most %d can be", name, len(name), maxPath)
	}
	if len(parts) == 0 {
		return nil, "", nil
	}
	return parts[:len(parts)-1], parts[len(parts)-1], nil
}

// walk follows parts from the root, symbolic links included, which stay inside
// as they do under chroot. What is missing it makes, if mtime is given, or else
// it gives nil.
func (t *Tree) walk(parts []string, mtime *int64) (*Node, error) {
	way := []*Node{t.Root}
	links := 0
	for len(parts) > 0 {
		dir, part := way[len(way)-1], parts[0]
		parts = parts[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			way = way[:max(1, len(way)-1)]
			continue
		}
		if !dir.Is(unix.S_IFDIR) {
			return nil, nil
		}
		next := dir.children[part].node
		switch {
		case next == nil && mtime == nil:
			return nil, nil
		case next == nil && len(part) > maxName:
			return nil, banger.Errorf(banger.KindInvalid, "a link leads to the name %.100q of %d bytes, at most %d can be", part, len(part), maxName)
		case next == nil:
			if err := t.count(0); err != nil {
				return nil, err
			}
			next = newDir(*mtime)
			t.set(dir, part, next)
		case next.Is(unix.S_IFLNK):
			if links++; links > maxFollow {
				return nil, banger.Errorf(banger.KindInvalid, "%.100q leads through more than %d symbolic links", part, maxFollow)
			}
			if path.IsAbs(next.Target) {
				way = way[:1]
			}
			parts = append(strings.Split(next.Target, "/"), parts...)
			continue
		}
		way = append(way, next)
	}
	return way[len(way)-1], nil
}

// Lookup is the file that a path leads to, symbolic links followed, or nil.
func (t *Tree) Lookup(name string) *Node {
	n, err := t.walk(strings.Split(name, "/"), nil)
	if err != nil {
		return nil
	}
	return n
}

// parent is the directory that a member goes into, made if it is missing.
func (t *Tree) parent(name string, dir []string, mtime int64) (*Node, error) {
	n, err := t.walk(dir, &mtime)
	if err != nil {
		return nil, err
	}
	if n == nil || !n.Is(unix.S_IFDIR) {
		return nil, banger.Errorf(banger.KindInvalid, "%.100q lies in what is no directory", name)
	}
	return n, nil
}

// count takes one entry and size bytes of content off what may still come.
func (t *Tree) count(size int64) error {
	if t.entries++; t.entries > t.limits.Entries {
		return banger.Errorf(banger.KindInvalid, "the image has more than %d entries", t.limits.Entries).
			WithNext("banger config show, and images.max_entries for a larger limit")
	}
	if size < 0 || size > int64(t.limits.Size)-t.size {
		return banger.Errorf(banger.KindInvalid, "the image's files hold more than %s", t.limits.Size).
			WithNext("banger config show, and images.max_size for a larger limit")
	}
	t.size += size
	return nil
}
