// Package room is how far a guest may fill the host's file systems: what it
// sends need not have an end, and some space is always left. It knows nothing
// of what is written.
package room

import (
	"io"
	"os"

	"golang.org/x/sys/unix"

	"banger.dev/banger"
)

// What a guest may not fill of a file system.
const (
	keepFree   = 256 << 20
	keepInodes = 1000
)

// Below says whether the file system of a directory has room for so many more
// bytes.
func Below(dir *os.File, more int64) error {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(dir.Fd()), &fs); err != nil {
		return err
	}
	return enough(fs, dir.Name(), more)
}

// At is Below for a directory that is not open.
func At(dir string, more int64) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return err
	}
	return enough(fs, dir, more)
}

// Whole says whether so much could ever be on the file system of a directory,
// whatever else is on it now.
func Whole(dir string, size int64) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return err
	}
	if all := int64(fs.Blocks) * fs.Bsize; size > all {
		return banger.Errorf(banger.KindUnavailable, "%s are to be written, and the file system of %s is of %s", banger.Bytes(size), dir, banger.Bytes(all)).
			WithNext("df -h %q", dir)
	}
	return nil
}

func enough(fs unix.Statfs_t, dir string, more int64) error {
	free := int64(fs.Bavail) * fs.Bsize
	switch {
	case more > 0 && free < more+keepFree:
		return banger.Errorf(banger.KindUnavailable, "%s has only %s left, and %s are to be written; %s are kept free",
			dir, banger.Bytes(free), banger.Bytes(more), banger.Bytes(keepFree)).WithNext("df -h %q", dir)
	case free < keepFree:
		return banger.Errorf(banger.KindUnavailable, "%s has only %s left, and the rest is not written", dir, banger.Bytes(free)).WithNext("df -h %q", dir)
	case fs.Files > 0 && fs.Ffree < keepInodes: // some have no inodes to count
		return banger.Errorf(banger.KindUnavailable, "%s has only %d files left, and the rest is not written", dir, fs.Ffree).WithNext("df -i %q", dir)
	}
	return nil
}

// every is how much is read between two looks at the room there is.
const every = 16 << 20

// Reader is r as long as there is room in a directory for what is read.
func Reader(r io.Reader, dir string) io.Reader { return &reader{r: r, dir: dir} }

type reader struct {
	r    io.Reader
	dir  string
	left int
}

func (r *reader) Read(p []byte) (int, error) {
	if r.left <= 0 {
		if err := At(r.dir, 0); err != nil {
			return 0, err
		}
		r.left = every
	}
	n, err := r.r.Read(p)
	r.left -= n
	return n, err
}
