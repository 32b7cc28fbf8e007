package kernel

import (
	"fmt"
	"io"
	"math"
	"strings"
)

// cpioEntry is one entry of an initramfs.
type cpioEntry struct {
	name         string // without a leading slash
	mode         uint32 // file type and permissions, as in stat(2)
	major, minor uint32 // of a device node
	data         []byte // content, or a symbolic link's target
}

// File types of cpioEntry.mode.
const (
	cpioFile    = 0o100000
	cpioDir     = 0o040000
	cpioChar    = 0o020000
	cpioSymlink = 0o120000
)

// cpioNameMax is what the kernel takes (PATH_MAX with the NUL).
const cpioNameMax = 4096

// writeCPIO writes a whole newc archive, trailer and padding included, so that
// two of them can follow one another in a file: the kernel unpacks both. All
// owners are root and all times 0, so equal input gives equal bytes.
func writeCPIO(w io.Writer, entries []cpioEntry) error {
	for i, e := range entries {
		if err := writeCPIOEntry(w, uint32(i+1), e); err != nil {
			return err
		}
	}
	return writeCPIOEntry(w, 0, cpioEntry{name: cpioTrailer})
}

const cpioTrailer = "TRAILER!!!"

func writeCPIOEntry(w io.Writer, inode uint32, e cpioEntry) error {
	if e.name == "" || len(e.name) >= cpioNameMax || strings.ContainsRune(e.name, 0) || (e.name == cpioTrailer && inode != 0) {
		return fmt.Errorf("%.64q cannot be a name in an initramfs", e.name)
	}
	if len(e.data) > math.MaxUint32 {
		return fmt.Errorf("%s is too large for an initramfs", e.name)
	}
	// magic ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
	header := fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		inode, e.mode, 0, 0, 1, 0, len(e.data), 0, 0, e.major, e.minor, len(e.name)+1, 0)
	head := header + e.name + "\x00"
	if _, err := io.WriteString(w, head+pad4(len(head))); err != nil {
		return err
	}
	if _, err := w.Write(e.data); err != nil {
		return err
	}
	_, err := io.WriteString(w, pad4(len(e.data)))
	return err
}

// pad4 is the zeros that follow n bytes up to a multiple of four.
func pad4(n int) string { return "\x00\x00\x00"[:(4-n%4)%4] }
