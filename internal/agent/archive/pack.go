package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Packer writes trees into one tar.
type Packer struct {
	// Xattrs has extended attributes packed too.
	Xattrs bool
	// Root is a user whose files become root's; 0 is nobody.
	Root int
	// Skip, if set, leaves out an entry by its name in the archive, and what is
	// below it.
	Skip func(name string) bool
	// Tee, if set, gives a writer that gets the content of a regular file too, its
	// holes as zeros.
	Tee func(name string, size int64) io.Writer
	// Skipped counts sockets, which no archive can hold.
	Skipped int

	out   io.Writer
	tar   *tar.Writer
	links map[inode]string // names of files that have several
	buf   []byte
}

type inode struct{ dev, ino uint64 }

// NewPacker writes to w. Its caller calls Close.
func NewPacker(w io.Writer) *Packer {
	return &Packer{out: w, tar: tar.NewWriter(w), links: map[inode]string{}, buf: make([]byte, copyBuffer)}
}

// Close writes the end of the archive.
func (p *Packer) Close() error { return p.tar.Close() }

// Add packs what is called base in dir, with all that is below it, under the
// name as. Both may be ".". A directory of the kernel's, such as /proc, comes
// empty, unless it is where the packing begins.
func (p *Packer) Add(dir *os.File, base, as string) error {
	st, err := lstat(dir, base)
	if err != nil {
		return fmt.Errorf("%s: %w", as, err)
	}
	return p.add(dir, base, as, st, st.Dev)
}

// AddOne packs an entry without what is below it.
func (p *Packer) AddOne(dir *os.File, base, as string) error {
	st, err := lstat(dir, base)
	if err != nil {
		return fmt.Errorf("%s: %w", as, err)
	}
	return p.entry(dir, base, as, st)
}

// Content packs a file that is not on any disk.
func (p *Packer) Content(hdr *tar.Header, content []byte) error {
	hdr.Size = int64(len(content))
	if err := p.tar.WriteHeader(hdr); err != nil {
		return err
	}
	_, err := p.tar.Write(content)
	return err
}

func (p *Packer) add(dir *os.File, base, as string, st unix.Stat_t, above uint64) error {
	if p.Skip != nil && p.Skip(as) {
		return nil
	}
	if err := p.entry(dir, base, as, st); err != nil {
		return err
	}
	if !isDir(st) {
		return nil
	}
	sub, err := openat(dir, base, unix.O_DIRECTORY|unix.O_RDONLY, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", as, errors.Unwrap(err))
	}
	defer func() { _ = sub.Close() }()
	if st.Dev != above && ofTheKernel(sub) {
		return nil
	}
	return List(sub, func(name string, inside unix.Stat_t) error {
		return p.add(sub, name, path.Join(as, name), inside, st.Dev)
	})
}

// entry packs one entry.
func (p *Packer) entry(dir *os.File, base, as string, st unix.Stat_t) error {
	hdr := header(as, st)
	if p.Root != 0 && hdr.Uid == p.Root {
		hdr.Uid, hdr.Gid = 0, 0
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return p.file(dir, base, hdr, st)
	case unix.S_IFLNK:
		target, err := readlink(dir, base)
		if err != nil {
			return fmt.Errorf("%s: %w", as, err)
		}
		hdr.Typeflag, hdr.Linkname = tar.TypeSymlink, target
	case unix.S_IFDIR:
		hdr.Typeflag, hdr.Name = tar.TypeDir, as+"/"
	case unix.S_IFIFO:
		hdr.Typeflag = tar.TypeFifo
	case unix.S_IFCHR, unix.S_IFBLK:
		hdr.Typeflag = tar.TypeChar
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			hdr.Typeflag = tar.TypeBlock
		}
		hdr.Devmajor, hdr.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	default:
		p.Skipped++
		return nil
	}
	return p.tar.WriteHeader(hdr)
}

func header(name string, st unix.Stat_t) *tar.Header {
	return &tar.Header{
		Name: name, Mode: int64(st.Mode & 0o7777), Uid: int(st.Uid), Gid: int(st.Gid),
		ModTime: time.Unix(st.Mtim.Sec, 0), // archive/tar would round up
	}
}

func (p *Packer) file(dir *os.File, base string, hdr *tar.Header, st unix.Stat_t) error {
	hdr.Typeflag, hdr.Size = tar.TypeReg, st.Size
	if st.Nlink > 1 {
		id := inode{st.Dev, st.Ino}
		if first, ok := p.links[id]; ok {
			hdr.Typeflag, hdr.Linkname, hdr.Size = tar.TypeLink, first, 0
			return p.tar.WriteHeader(hdr)
		}
		p.links[id] = hdr.Name
	}
	// Not to wait for a writer, should it have become a pipe.
	f, err := openat(dir, base, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", hdr.Name, errors.Unwrap(err))
	}
	defer func() { _ = f.Close() }()
	var now unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &now); err != nil || now.Mode&unix.S_IFMT != unix.S_IFREG {
		return fmt.Errorf("%s: it is no regular file any more", hdr.Name)
	}
	hdr.Size = now.Size
	if p.Xattrs {
		hdr.PAXRecords = xattrsOf(f)
	}
	tee := io.Discard
	if p.Tee != nil {
		tee = p.Tee(hdr.Name, hdr.Size)
	}
	if parts := segments(f, now); parts != nil {
		return p.sparse(f, hdr, parts, tee)
	}
	if err := p.tar.WriteHeader(hdr); err != nil {
		return err
	}
	return p.copy(both(p.tar, tee), io.LimitReader(f, hdr.Size), hdr.Name, hdr.Size)
}

// both writes to w and, should anybody want it, to tee.
func both(w, tee io.Writer) io.Writer {
	if tee == io.Discard {
		return w
	}
	return io.MultiWriter(w, tee)
}

// copy writes size bytes; a file that has become shorter meanwhile is an error.
func (p *Packer) copy(w io.Writer, r io.Reader, name string, size int64) error {
	n, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, p.buf)
	if err == nil && n < size {
		err = errors.New("it became shorter while it was read")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func readlink(dir *os.File, base string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(dir.Fd()), base, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// xattrsOf are the extended attributes that mean something elsewhere.
func xattrsOf(f *os.File) map[string]string {
	names := make([]byte, 64<<10)
	n, err := unix.Flistxattr(int(f.Fd()), names)
	if err != nil || n == 0 {
		return nil
	}
	records := map[string]string{}
	value := make([]byte, 64<<10)
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names[:n]), "\x00"), "\x00") {
		if !portable(name) {
			continue
		}
		if n, err := unix.Fgetxattr(int(f.Fd()), name, value); err == nil {
			records[xattrRecord+name] = string(value[:n])
		}
	}
	return records
}

// portable says whether an extended attribute means the same elsewhere: those
// of users do, and what a program may do.
func portable(name string) bool {
	return strings.HasPrefix(name, "user.") || name == "security.capability"
}

// ofTheKernel says whether a directory is of a file system that holds nothing
// but the kernel's own words.
func ofTheKernel(dir *os.File) bool {
	var fs unix.Statfs_t
	if unix.Fstatfs(int(dir.Fd()), &fs) != nil {
		return false
	}
	switch fs.Type {
	case unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP2_SUPER_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.DEVPTS_SUPER_MAGIC,
		unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC, unix.SECURITYFS_MAGIC, unix.BPF_FS_MAGIC, unix.PSTOREFS_MAGIC, unix.EFIVARFS_MAGIC:
		return true
	}
	return false
}
