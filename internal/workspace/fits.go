package workspace

import (
	"path"
	"path/filepath"

	"golang.org/x/sys/unix"

	"banger.dev/banger"
)

// load is what a copy adds to the guest's file system.
type load struct {
	bytes, files int64
	// largest is the largest file that another makes place for: both are there for a
	// moment.
	largest int64
	dirs    map[string]bool
	sizes   map[string]int64 // of the guest's files, as they were given
}

// fits says whether the guest has room for what is sent, before any of it is.
func (i *importing) fits(gone []string) error {
	if i.room == nil {
		return nil
	}
	l := load{dirs: map[string]bool{".": true}, sizes: map[string]int64{}}
	for _, s := range i.before.Stamps {
		l.sizes[string(s.Path)] = inBlocks(s.Size)
	}
	for n, d := range i.gits {
		at := path.Join(i.listed.repos[n].at, ".git")
		for name, from := range d.copied {
			if as := path.Join(at, name); !i.hasObject(name, as) {
				l.add(as, from)
			}
		}
	}
	for name := range i.changed {
		l.add(name, filepath.Join(i.src.tree, name))
	}
	for _, name := range gone {
		l.bytes -= l.sizes[name]
		l.files--
	}
	return i.enough(l.bytes+l.largest, l.files)
}

// add counts a file of the host's that is sent.
func (l *load) add(as, from string) {
	st, err := lstat(from)
	if err != nil {
		return // the copy itself will say
	}
	size := onDisk(st)
	was, there := l.sizes[as]
	l.bytes += size - was
	if there {
		l.largest = max(l.largest, was)
		return
	}
	l.files++
	for dir := path.Dir(as); !l.dirs[dir]; dir = path.Dir(dir) {
		l.dirs[dir] = true
		l.files++
	}
}

// block is the unit of a guest's file system.
const block = 4096

func inBlocks(size int64) int64 { return (size + block - 1) / block * block }

// onDisk is what a copy of a file takes: holes nothing.
func onDisk(st unix.Stat_t) int64 {
	if isSparse(st) {
		return inBlocks(st.Blocks * 512)
	}
	return inBlocks(st.Size)
}

func (i *importing) enough(bytes, files int64) error {
	var short *banger.Error
	switch {
	case bytes > i.room.Bytes:
		short = banger.Errorf(banger.KindUnavailable, "%s:%s has room for %s, and %s are to be copied",
			i.vm.Name, i.path, banger.Bytes(i.room.Bytes), banger.Bytes(bytes))
	case i.room.Files >= 0 && files > i.room.Files:
		short = banger.Errorf(banger.KindUnavailable, "%s:%s has room for %d files, and %d are to be copied",
			i.vm.Name, i.path, i.room.Files, files)
	default:
		return nil
	}
	if !i.room.Root {
		return short.WithNext("banger vm workspace prepare --target %s %s %s, onto the root disk", quote("/srv/"+filepath.Base(i.src.root)), i.vm.Name, quote(i.src.root))
	}
	size := banger.Bytes(i.room.Size+max(bytes-i.room.Bytes, 0))/banger.GiB + 2
	if bytes <= i.room.Bytes {
		size = 2 * size // a disk has as many files as it is large
	}
	return short.WithNext("banger vm set --disk %dGiB %s", size, i.vm.Name)
}
