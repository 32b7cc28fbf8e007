package archive

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// below goes from one directory to another below the same top, following no
// link. Names that come in the order of a tree cost little.
type below struct {
	top    *os.File
	parent *os.File
	at     string // the parent's name
}

func newBelow(top *os.File) *below { return &below{top: top, parent: top, at: "."} }

// enter makes the directory with this name the parent, and, if told so, makes
// what of it is missing.
func (b *below) enter(name string, create bool) error {
	if name == b.at {
		return nil
	}
	b.leave()
	if name == "." {
		return nil
	}
	parent := b.top
	for part := range strings.SplitSeq(name, "/") {
		next, err := openDirAt(parent, part, create)
		if parent != b.top {
			_ = parent.Close()
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		parent = next
	}
	b.parent, b.at = parent, name
	return nil
}

func (b *below) leave() {
	if b.parent != b.top {
		_ = b.parent.Close()
	}
	b.parent, b.at = b.top, "."
}

// openDirAt opens a directory, and, if told so, makes it if it is not there.
func openDirAt(dir *os.File, base string, create bool) (*os.File, error) {
	sub, err := openat(dir, base, unix.O_DIRECTORY|unix.O_RDONLY, 0)
	if create && errors.Is(err, unix.ENOENT) {
		if err := unix.Mkdirat(int(dir.Fd()), base, 0o755); err != nil && err != unix.EEXIST {
			return nil, err
		}
		sub, err = openat(dir, base, unix.O_DIRECTORY|unix.O_RDONLY, 0)
	}
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil, errNoDir
	}
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	return sub, nil
}

var errNoDir = errors.New("it is there already, and is no directory")

// OpenDirAt opens the directory that is called base in dir, and is no link.
func OpenDirAt(dir *os.File, base string) (*os.File, error) { return openDirAt(dir, base, false) }

// List calls do for each entry of a directory, in the order of their names.
// What goes away meanwhile is left out.
func List(dir *os.File, do func(base string, st unix.Stat_t) error) error {
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		st, err := lstat(dir, name)
		if err == unix.ENOENT {
			continue
		}
		if err == nil {
			err = do(name, st)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// IsAbsent says whether err means that nothing is at a path, perhaps because a
// link or a file is where a directory of it would be.
func IsAbsent(err error) bool { return errors.Is(err, unix.ENOENT) || errors.Is(err, errNoDir) }

// Tree is the files below an open directory, by their paths.
type Tree struct{ *below }

// NewTree reads below dir, which its caller closes. Its own caller calls Close.
func NewTree(dir *os.File) Tree { return Tree{newBelow(dir)} }

// Close closes what the tree has opened itself.
func (t Tree) Close() { t.leave() }

// Lstat says what is at a path. Behind a link there is nothing.
func (t Tree) Lstat(name string) (unix.Stat_t, error) {
	base, err := t.reach(name)
	if err != nil {
		return unix.Stat_t{}, err
	}
	return lstat(t.parent, base)
}

// Remove removes what is at a path, if that is no directory, and the directories
// above it that are empty then. What is not there is removed already.
func (t Tree) Remove(name string) error {
	base, err := t.reach(name)
	if err == nil {
		err = unix.Unlinkat(int(t.parent.Fd()), base, 0)
	}
	if IsAbsent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	t.Prune(name)
	return nil
}

// Prune removes the directories above a path that are empty.
func (t Tree) Prune(name string) {
	for dir := path.Dir(path.Clean(name)); dir != "."; dir = path.Dir(dir) {
		base, err := t.reach(dir)
		if err != nil || unix.Unlinkat(int(t.parent.Fd()), base, unix.AT_REMOVEDIR) != nil {
			return
		}
	}
}

// reach makes the directory of name the parent.
func (t Tree) reach(name string) (base string, err error) {
	local, err := Local(name)
	if err != nil {
		return "", err
	}
	return path.Base(local), t.enter(path.Dir(local), false)
}

// AddPath packs what is at a path of a tree, without what is below it.
func (p *Packer) AddPath(t Tree, name, as string) error {
	base, err := t.reach(name)
	if err != nil {
		return err
	}
	return p.AddOne(t.parent, base, as)
}

// Swap moves what is called fresh in the directory aside to a path of the tree,
// and what was there to old in aside. Either need not be there. Unswap undoes it,
// also one that was cut off.
func (t Tree) Swap(name string, aside *os.File, fresh, old string) error {
	local, err := Local(name)
	if err != nil {
		return err
	}
	_, err = lstat(aside, fresh)
	placing := err == nil
	if err := t.enter(path.Dir(local), placing); err != nil {
		return err
	}
	base, here, there := path.Base(local), int(t.parent.Fd()), int(aside.Fd())
	if st, err := lstat(t.parent, base); err == nil && isDir(st) {
		if err := unix.Unlinkat(here, base, unix.AT_REMOVEDIR); err != nil {
			return err
		}
	} else if err == nil {
		if err := unix.Renameat(here, base, there, old); err != nil {
			return err
		}
	}
	if !placing {
		return nil
	}
	return unix.Renameat(there, fresh, here, base)
}

// Unswap moves what is at a path to fresh in aside, and old back to the path.
func (t Tree) Unswap(name string, aside *os.File, fresh, old string) error {
	local, err := Local(name)
	if err != nil {
		return err
	}
	if err := t.enter(path.Dir(local), true); err != nil {
		return err
	}
	base, here, there := path.Base(local), int(t.parent.Fd()), int(aside.Fd())
	if err := unix.Renameat(here, base, there, fresh); err != nil && err != unix.ENOENT {
		return err
	}
	if err := unix.Renameat(there, old, here, base); err != nil && err != unix.ENOENT {
		return err
	}
	return nil
}
