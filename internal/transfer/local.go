package transfer

import (
	"archive/tar"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"banger.dev/banger"
	"banger.dev/banger/internal/agent/archive"
	"banger.dev/banger/internal/room"
)

// localSource is what is to be copied, in a directory that is open.
type localSource struct {
	item
	dir  *os.File
	in   string // its name in dir
	size int64  // 0 if only the packing will tell
}

func (c Copy) localSource(src string) (localSource, error) {
	p := parse(src)
	name, err := filepath.Abs(src)
	if err != nil {
		return localSource{}, banger.Errorf(banger.KindInternal, "%s: %w", src, err)
	}
	if c.Follow || p.slash {
		if name, err = filepath.EvalSymlinks(name); err != nil {
			return localSource{}, unreadable(src, err)
		}
	}
	info, err := os.Lstat(name)
	if err != nil {
		return localSource{}, unreadable(src, err)
	}
	if p.slash && !info.IsDir() {
		return localSource{}, banger.Errorf(banger.KindConflict, "%s is no directory", src)
	}
	from := localSource{item: item{base: filepath.Base(name), dir: info.IsDir()}, in: filepath.Base(name)}
	if info.Mode().IsRegular() {
		from.size = info.Size()
	}
	parent := filepath.Dir(name)
	if p.contents || name == "/" {
		parent, from.in, from.base = name, ".", "."
	}
	if from.dir, err = archive.OpenDir(parent); err != nil {
		return localSource{}, unreadable(src, err)
	}
	return from, nil
}

func unreadable(src string, err error) error {
	kind := banger.KindInternal
	if errors.Is(err, fs.ErrNotExist) {
		kind = banger.KindNotFound
	}
	var place *fs.PathError
	if errors.As(err, &place) {
		err = place.Err
	}
	return banger.Errorf(kind, "%s: %w", src, err)
}

func (s localSource) pack(w io.Writer, as string) (skipped int, err error) {
	p := archive.NewPacker(w)
	p.Xattrs = true
	if err := p.Add(s.dir, s.in, as); err != nil {
		return p.Skipped, err
	}
	return p.Skipped, p.Close()
}

// localTarget is where what is to be on the host.
func localTarget(what item, dst string) (target, error) {
	p := parse(dst)
	name, err := filepath.Abs(dst)
	if err != nil {
		return target{}, banger.Errorf(banger.KindInternal, "%s: %w", dst, err)
	}
	at := existing{path: followed(name)}
	parent, err := os.Stat(filepath.Dir(at.path))
	at.parent = err == nil && parent.IsDir()
	info, err := os.Lstat(at.path)
	switch {
	case err == nil:
		at.exists, at.dir = true, info.IsDir()
	case !errors.Is(err, fs.ErrNotExist):
		return target{}, unreadable(dst, err)
	}
	return decide(what, p, at, dst)
}

// followed is where a path leads to, whether anything is there or not.
func followed(name string) string {
	for range 40 {
		link, err := os.Readlink(name)
		if err != nil {
			break
		}
		if !filepath.IsAbs(link) {
			dir := filepath.Dir(name)
			if real, err := filepath.EvalSymlinks(dir); err == nil {
				dir = real
			}
			link = filepath.Join(dir, link)
		}
		name = link
	}
	return name
}

// unpack makes files of what the guest sends, which is to be what alone.
func (c Copy) unpack(to target, what item, r io.Reader) (Done, error) {
	dir, err := archive.OpenDir(to.dir)
	if err != nil {
		return Done{}, unreadable(to.dir, err)
	}
	defer func() { _ = dir.Close() }()
	u := &archive.Unpacker{Room: func() error { return room.Below(dir, 0) }, Each: only(to.name, what.dir)}
	if c.Archive {
		u.Owner = func(hdr *tar.Header) (int, int) { return hdr.Uid, hdr.Gid }
	}
	err = u.Unpack(dir, r)
	if err == nil && to.name != "." && u.Entries+u.LeftOut == 0 {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		err = c.wrong(to, err)
	}
	return Done{Entries: u.Entries, Bytes: u.Bytes, LeftOut: u.LeftOut}, err
}

func (c Copy) wrong(to target, err error) error {
	var ours *banger.Error
	switch {
	case errors.As(err, &ours):
		return err
	case errors.Is(err, tar.ErrHeader), errors.Is(err, io.ErrUnexpectedEOF):
		return banger.Errorf(banger.KindUnavailable, "%s sends what is no archive: %w", c.Guest.Name, err).WithNext("banger vm show %s", c.Guest.Name)
	}
	return banger.Errorf(banger.KindInternal, "%s: %w", to.dir, err)
}

// only refuses entries that are not name or below it: a guest asked for one
// thing may not bring others with it.
func only(name string, dir bool) func(string, *tar.Header) error {
	below := func(entry string) bool { return name == "." || dir && strings.HasPrefix(entry, name+"/") }
	return func(entry string, hdr *tar.Header) error {
		asked := below(entry) || entry == name && dir == (hdr.Typeflag == tar.TypeDir)
		if asked && hdr.Typeflag == tar.TypeLink {
			target, err := archive.Local(hdr.Linkname)
			asked = err == nil && below(target)
		}
		if !asked {
			return banger.Errorf(banger.KindUnavailable, "the guest sends %q, which was not asked for", entry)
		}
		if archive.HasLongHoles(hdr) {
			return banger.Errorf(banger.KindUnavailable, "the guest sends the holes of %q in a form that no agent does", entry)
		}
		return nil
	}
}
