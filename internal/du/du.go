// Package du counts what files take on disk as du(1) does: allocated blocks,
// directories included, and of several names of one file the first alone. It
// changes nothing and knows nothing of what the files are.
package du

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"banger.dev/banger"
)

// blockSize is the unit of st_blocks, whatever the file system's own is.
const blockSize = 512

// Counter counts nothing twice: what is left of a tree whose parts it has
// counted is one more Tree of the whole. The zero value is ready; it is not for
// several goroutines.
type Counter struct{ seen map[inode]bool }

type inode struct{ dev, ino uint64 }

// Tree is what path and all below it take, as far as this Counter has not
// counted it before. What is gone takes nothing; what cannot be read is left
// out and is an error.
func (c *Counter) Tree(path string) (banger.Bytes, error) {
	var total banger.Bytes
	var failed []error
	_ = filepath.WalkDir(path, func(path string, d fs.DirEntry, err error) error {
		if err == nil {
			var n banger.Bytes
			n, err = c.file(path)
			total += n
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = append(failed, err)
		}
		return nil
	})
	return total, errors.Join(failed...)
}

func (c *Counter) file(path string) (banger.Bytes, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return 0, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || c.again(st) {
		return 0, nil
	}
	return banger.Bytes(st.Blocks) * blockSize, nil
}

// again says whether a file was counted before, and notes that it is now. Only
// its names are many: a regular file with one is met once.
func (c *Counter) again(st *syscall.Stat_t) bool {
	id := inode{st.Dev, st.Ino}
	if c.seen[id] {
		return true
	}
	if c.seen == nil {
		c.seen = map[inode]bool{}
	}
	c.seen[id] = true
	return false
}
