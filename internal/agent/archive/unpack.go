package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Unpacker makes files of a tar below one directory. What is there already is
// replaced, but a directory only by a directory, and the other way round: then
// it stays as it is, and gets the new entries too.
type Unpacker struct {
	// Owner, if set, gives the owner of an entry; without, it is whoever unpacks.
	Owner func(*tar.Header) (uid, gid int)
	// Special makes devices and pipes, keeps the bits that change who a program
	// runs as, and sets what else a program may do. Without, these are left out:
	// for archives of somebody who is not trusted.
	Special bool
	// Room, if set, is asked before each entry and now and then during a long
	// one; its error ends the unpacking.
	Room func() error
	// Each, if set, is told of each entry before it is made; its error ends the
	// unpacking.
	Each func(name string, hdr *tar.Header) error
	// Made, if set, is told of each entry that is there now.
	Made func(name string, hdr *tar.Header)

	// What has been unpacked, and what Special would have made.
	Entries, Bytes, LeftOut int64

	*below
	raw     io.Reader
	archive *tar.Reader // of raw
	touched []touched
	buf     []byte
}

// touched is a new directory: it gets its mode and time at the end.
type touched struct {
	name string
	mode uint32
	time time.Time
}

// roomEvery is how much is written between two looks at the room there is.
const roomEvery = 16 << 20

// Unpack makes files of the tar that r holds. What it has made stays if it
// fails. r is read to the tar's end and not further.
func (u *Unpacker) Unpack(dir *os.File, r io.Reader) error {
	u.below, u.touched, u.buf = newBelow(dir), nil, make([]byte, copyBuffer)
	defer u.leave()
	u.raw, u.archive = r, tar.NewReader(r)
	for {
		hdr, err := u.archive.Next()
		if errors.Is(err, io.EOF) {
			return u.finish()
		}
		if err != nil {
			return err
		}
		if err := u.one(hdr); err != nil {
			return errors.Join(err, u.finish())
		}
	}
}

func (u *Unpacker) one(hdr *tar.Header) error {
	name, err := Local(hdr.Name)
	if err == nil && u.Room != nil {
		err = u.Room()
	}
	if err == nil && u.Each != nil {
		err = u.Each(name, hdr)
	}
	if err != nil {
		return err
	}
	if name == "." {
		return nil // the directory itself is its owner's affair
	}
	if err := u.enter(path.Dir(name), true); err != nil {
		return err
	}
	made, err := u.entry(path.Base(name), name, hdr)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if made {
		u.Entries++
		if u.Made != nil {
			u.Made(name, hdr)
		}
	} else {
		u.LeftOut++
	}
	return nil
}

// entry makes one entry of the parent. One that is left out is not made.
func (u *Unpacker) entry(base, name string, hdr *tar.Header) (made bool, err error) {
	fd := int(u.parent.Fd())
	mode := u.mode(hdr)
	switch hdr.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse, tar.TypeCont:
		return true, u.file(base, hdr)
	case tar.TypeDir:
		return true, u.dir(base, name, hdr)
	case tar.TypeSymlink:
		err = u.replacing(base, func() error { return unix.Symlinkat(hdr.Linkname, fd, base) })
	case tar.TypeLink:
		return true, u.link(base, hdr)
	case tar.TypeFifo, tar.TypeChar, tar.TypeBlock:
		if !u.Special {
			return false, nil
		}
		kind := map[byte]uint32{tar.TypeFifo: unix.S_IFIFO, tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK}[hdr.Typeflag]
		device := unix.Mkdev(uint32(hdr.Devmajor), uint32(hdr.Devminor))
		err = u.replacing(base, func() error { return unix.Mknodat(fd, base, kind|mode, int(device)) })
	default:
		return false, nil // what no file is made of: labels, parts of other archives
	}
	if err != nil {
		return false, err
	}
	if err := u.chown(base, hdr); err != nil {
		return false, err
	}
	return true, setTime(fd, base, hdr.ModTime)
}

func (u *Unpacker) mode(hdr *tar.Header) uint32 {
	if u.Special {
		return uint32(hdr.Mode) & 0o7777
	}
	return uint32(hdr.Mode) & 0o777
}

// replacing does what makes an entry, and removes what is in its place.
func (u *Unpacker) replacing(base string, make func() error) error {
	err := make()
	if err != unix.EEXIST {
		return err
	}
	st, err := lstat(u.parent, base)
	if err == nil && isDir(st) {
		return errors.New("it is there already, as a directory, and would become something else")
	}
	if err := unix.Unlinkat(int(u.parent.Fd()), base, 0); err != nil && err != unix.ENOENT {
		return err
	}
	return make()
}

func (u *Unpacker) dir(base, name string, hdr *tar.Header) error {
	fd := int(u.parent.Fd())
	err := unix.Mkdirat(fd, base, 0o700)
	if err == unix.EEXIST {
		st, err := lstat(u.parent, base)
		if err == nil && !isDir(st) {
			err = errors.New("it is there already, and is no directory")
		}
		return err
	}
	if err != nil {
		return err
	}
	u.touched = append(u.touched, touched{name, u.mode(hdr), hdr.ModTime})
	return u.chown(base, hdr)
}

func (u *Unpacker) link(base string, hdr *tar.Header) error {
	target, err := Local(hdr.Linkname)
	if err != nil {
		return err
	}
	from := newBelow(u.top)
	defer from.leave()
	if err := from.enter(path.Dir(target), false); err != nil {
		return err
	}
	st, err := lstat(from.parent, path.Base(target))
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = errors.New("it is no regular file")
	}
	if err != nil {
		return fmt.Errorf("a further name of %s: %w", target, err)
	}
	if same, err := lstat(u.parent, base); err == nil && same.Dev == st.Dev && same.Ino == st.Ino {
		return nil
	}
	return u.replacing(base, func() error {
		return unix.Linkat(int(from.parent.Fd()), path.Base(target), int(u.parent.Fd()), base, 0)
	})
}

// file makes a regular file. One that is there already is replaced only when the
// new one is whole, and a long one has another name until it is: nobody is to take
// the beginning for all of it.
func (u *Unpacker) file(base string, hdr *tar.Header) error {
	const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL
	as := base
	f, err := (*os.File)(nil), error(unix.EEXIST)
	if hdr.Size <= copyBuffer {
		f, err = openat(u.parent, as, flags, 0o600)
	}
	if errors.Is(err, unix.EEXIST) {
		if st, err := lstat(u.parent, base); err == nil && isDir(st) {
			return errors.New("it is there already, as a directory, and would become a file")
		}
		as = fmt.Sprintf(".banger-%016x", rand.Uint64())
		f, err = openat(u.parent, as, flags, 0o600)
	}
	if err != nil {
		return errors.Unwrap(err)
	}
	fd := int(u.parent.Fd())
	err = u.fill(f, hdr)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil && as != base {
		err = unix.Renameat(fd, as, fd, base)
	}
	if err != nil {
		_ = unix.Unlinkat(fd, as, 0)
	}
	return err
}

func (u *Unpacker) fill(f *os.File, hdr *tar.Header) error {
	if err := u.content(f, hdr); err != nil {
		return err
	}
	if u.Owner != nil {
		uid, gid := u.Owner(hdr)
		if err := f.Chown(uid, gid); err != nil {
			return errors.Unwrap(err)
		}
	}
	for key, value := range hdr.PAXRecords {
		name, ok := strings.CutPrefix(key, xattrRecord)
		if ok && (strings.HasPrefix(name, "user.") || u.Special && portable(name)) {
			// A file system without them has the file all the same.
			_ = unix.Fsetxattr(int(f.Fd()), name, []byte(value), 0)
		}
	}
	if err := unix.Fchmod(int(f.Fd()), u.mode(hdr)); err != nil {
		return err
	}
	stamp := unix.NsecToTimeval(hdr.ModTime.UnixNano())
	return unix.Futimes(int(f.Fd()), []unix.Timeval{stamp, stamp})
}

func (u *Unpacker) content(f *os.File, hdr *tar.Header) error {
	if !IsSparse(hdr) {
		return u.copy(struct{ io.Writer }{f}, u.archive)
	}
	if parts, ok := mapOf(hdr); ok {
		return u.scatter(f, hdr.Size, parts)
	}
	holes := NewHoles(f)
	if err := u.copy(holes, u.archive); err != nil {
		return err
	}
	return holes.End()
}

// scatter puts the parts of a sparse file where they belong, and has no work with
// the holes: archive/tar would read them out, however long they are said to be. So
// the parts are read from under it, and it begins anew behind them.
func (u *Unpacker) scatter(f *os.File, size int64, parts []segment) error {
	if err := f.Truncate(size); err != nil {
		return errors.Unwrap(err)
	}
	before, total := u.Bytes, int64(0)
	for _, s := range parts {
		if err := u.copy(io.NewOffsetWriter(f, s.offset), io.LimitReader(u.raw, s.length)); err != nil {
			return err
		}
		total += s.length
	}
	if u.Bytes-before < total {
		return io.ErrUnexpectedEOF
	}
	_, err := io.CopyN(io.Discard, u.raw, -total&(tarBlock-1))
	u.archive = tar.NewReader(u.raw)
	return err
}

func (u *Unpacker) copy(out io.Writer, archive io.Reader) error {
	for {
		n, err := io.CopyBuffer(out, io.LimitReader(archive, roomEvery), u.buf)
		u.Bytes += n
		if err != nil || n < roomEvery {
			return err
		}
		if u.Room != nil {
			if err := u.Room(); err != nil {
				return err
			}
		}
	}
}

func (u *Unpacker) chown(base string, hdr *tar.Header) error {
	if u.Owner == nil {
		return nil
	}
	uid, gid := u.Owner(hdr)
	return unix.Fchownat(int(u.parent.Fd()), base, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
}

// finish gives the new directories their modes and times, the innermost first.
func (u *Unpacker) finish() error {
	var first error
	for i := len(u.touched) - 1; i >= 0; i-- {
		t := u.touched[i]
		if err := u.seal(t); err != nil && first == nil {
			first = fmt.Errorf("%s: %w", t.name, err)
		}
	}
	return first
}

func (u *Unpacker) seal(t touched) error {
	if err := u.enter(path.Dir(t.name), false); err != nil {
		return err
	}
	f, err := openat(u.parent, path.Base(t.name), unix.O_DIRECTORY|unix.O_RDONLY, 0)
	if err != nil {
		return errors.Unwrap(err)
	}
	defer func() { _ = f.Close() }()
	stamp := unix.NsecToTimeval(t.time.UnixNano())
	if err := unix.Futimes(int(f.Fd()), []unix.Timeval{stamp, stamp}); err != nil {
		return err
	}
	return unix.Fchmod(int(f.Fd()), t.mode)
}

func setTime(dir int, base string, at time.Time) error {
	stamp, err := unix.TimeToTimespec(at)
	if err != nil {
		return err
	}
	return unix.UtimesNanoAt(dir, base, []unix.Timespec{stamp, stamp}, unix.AT_SYMLINK_NOFOLLOW)
}
