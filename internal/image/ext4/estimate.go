package ext4

import (
	"io/fs"
	"path/filepath"

	"banger.dev/banger"
)

// estimate adds up what files will need.
type estimate struct{ inodes, blocks int64 }

// add counts one file of size bytes with a name of length name.
func (e *estimate) add(size int64, name int) {
	e.inodes++
	// A block more for each file stands for a directory's first block or an
	// extended attribute; names are directory entries.
	e.blocks += 1 + int64(name)/blockSize
	e.grow(size)
}

// grow counts contents.
func (e *estimate) grow(size int64) { e.blocks += (size + blockSize - 1) / blockSize }

// size is that of a file system that holds it all: blocks, inodes, bitmaps and
// group descriptors, and a tenth more. The slack is a hole in the file.
func (e *estimate) size() banger.Bytes {
	bytes := e.blocks*blockSize + e.inodes*2*256
	return banger.Bytes((bytes+bytes/10)/blockSize*blockSize) + 4*banger.MiB
}

func estimateDir(dir string) (*estimate, error) {
	e := &estimate{}
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		var size int64
		if info.Mode().IsRegular() || info.Mode()&fs.ModeSymlink != 0 {
			size = info.Size()
		}
		e.add(size, len(d.Name()))
		return nil
	})
	return e, err
}
