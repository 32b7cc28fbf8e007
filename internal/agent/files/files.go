// Package files is the part of the control port that carries files: what is at
// a path, a tar of it, and files out of a tar. It needs no program of the image.
// Each request runs with the rights of the user it names.
package files

import (
	"archive/tar"
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"banger.dev/banger/internal/agent/archive"
	"banger.dev/banger/internal/agent/users"
	"banger.dev/banger/internal/agent/wire"
)

// Server answers requests about files.
type Server struct {
	Users *users.DB
	User  string // whose home is meant where no user is named; "" is root
}

// answerBuffer joins what a tar is written in: each write costs an exit from the guest.
const answerBuffer = 256 << 10

// Stat answers wire.PathStat.
func (s *Server) Stat(body io.Reader, answer io.Writer) error {
	var req wire.StatFile
	if err := readAll(body, &req); err != nil {
		return err
	}
	return s.at(req.Place, func(name string, _ users.Identity) error {
		stat, err := statFile(name, req.Follow)
		if err != nil {
			return err
		}
		return json.NewEncoder(answer).Encode(stat)
	})
}

// Read answers wire.PathRead.
func (s *Server) Read(body io.Reader, answer io.Writer) error {
	var req wire.ReadFiles
	if err := readAll(body, &req); err != nil {
		return err
	}
	return s.at(req.Place, func(name string, _ users.Identity) error {
		dir, base := filepath.Split(name)
		if req.As == "." || base == "" {
			dir, base = name, "."
		}
		parent, err := archive.OpenDir(dir)
		if err != nil {
			return failure(err)
		}
		defer func() { _ = parent.Close() }()
		out := bufio.NewWriterSize(answer, answerBuffer)
		p := archive.NewPacker(out)
		p.Xattrs = true
		if err := p.Add(parent, base, string(req.As)); err != nil {
			return errors.Join(out.Flush(), failure(err))
		}
		return errors.Join(p.Close(), out.Flush())
	})
}

// Write answers wire.PathWrite.
func (s *Server) Write(body io.Reader, answer io.Writer) error {
	in := bufio.NewReaderSize(body, answerBuffer)
	var req wire.WriteFiles
	if err := readLine(in, &req); err != nil {
		return err
	}
	return s.at(req.Place, func(name string, id users.Identity) error {
		if req.Make {
			if err := os.MkdirAll(name, 0o755); err != nil {
				return failure(err)
			}
		}
		dir, err := archive.OpenDir(name)
		if err != nil {
			return failure(err)
		}
		defer func() { _ = dir.Close() }()
		u := &archive.Unpacker{Special: id.UID == 0, Owner: owner(id, req.Keep)}
		var made []string
		if req.Stamps {
			u.Made = func(name string, hdr *tar.Header) {
				if hdr.Typeflag != tar.TypeDir {
					made = append(made, name)
				}
			}
		}
		if err := u.Unpack(dir, in); err != nil {
			return failure(fmt.Errorf("%s: %w", name, err))
		}
		out := bufio.NewWriterSize(answer, answerBuffer)
		if err := json.NewEncoder(out).Encode(wire.WroteFiles{Entries: u.Entries, Bytes: u.Bytes, LeftOut: u.LeftOut}); err != nil {
			return err
		}
		return errors.Join(writeStamps(out, dir, made), out.Flush())
	})
}

// owner is who new files belong to: whoever makes them, unless root decides.
func owner(id users.Identity, keep bool) func(*tar.Header) (uid, gid int) {
	switch {
	case id.UID != 0:
		return nil
	case keep:
		return func(hdr *tar.Header) (int, int) { return hdr.Uid, hdr.Gid }
	}
	return func(*tar.Header) (int, int) { return 0, int(id.GID) }
}

// at calls do with the path of a place and the rights of its user.
func (s *Server) at(place wire.Place, do func(name string, id users.Identity) error) error {
	who := place.User
	if who == "" && place.Own {
		who = s.User
	}
	if who == "" {
		who = "0"
	}
	id, err := s.Users.Lookup(who)
	if err != nil {
		return &wire.FileError{Kind: "not_found", Message: err.Error()}
	}
	name := string(place.Path)
	switch {
	case strings.ContainsRune(name, 0):
		return &wire.FileError{Kind: "invalid", Message: fmt.Sprintf("%q is no path", name)}
	case place.Own && !path.IsAbs(name):
		local, err := archive.Local(name)
		if err != nil {
			return &wire.FileError{Kind: "invalid", Message: err.Error()}
		}
		name = path.Join(id.Home, local)
	case !path.IsAbs(name):
		return &wire.FileError{Kind: "invalid", Message: fmt.Sprintf("%q is no absolute path", name)}
	}
	return asUser(id, func() error { return do(path.Clean(name), id) })
}

func statFile(name string, follow bool) (wire.FileStat, error) {
	if follow {
		name = followed(name)
	}
	stat := wire.FileStat{Path: wire.Text(name), Room: roomAt(name)}
	parent, err := os.Stat(path.Dir(name))
	stat.Parent = err == nil && parent.IsDir()
	info, err := os.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR):
		return stat, nil
	case err != nil:
		return stat, failure(err)
	}
	stat.Exists, stat.Size, stat.Mode = true, info.Size(), uint32(info.Mode().Perm())
	switch {
	case info.Mode().IsRegular():
		stat.Kind = wire.KindFile
	case info.IsDir():
		stat.Kind = wire.KindDir
	case info.Mode()&fs.ModeSymlink != 0:
		stat.Kind = wire.KindSymlink
	default:
		stat.Kind = wire.KindOther
	}
	return stat, nil
}

// roomAt is the room where a path is or would be, nil if nobody knows.
func roomAt(name string) *wire.Room {
	for {
		var fs unix.Statfs_t
		err := unix.Statfs(name, &fs)
		if err == nil {
			return roomOf(fs)
		}
		if name == "/" || err != unix.ENOENT && err != unix.ENOTDIR {
			return nil
		}
		name = path.Dir(name)
	}
}

func roomOf(fs unix.Statfs_t) *wire.Room {
	room := &wire.Room{Bytes: int64(fs.Bavail) * fs.Bsize, Files: int64(fs.Ffree), Size: int64(fs.Blocks) * fs.Bsize}
	if fs.Files == 0 {
		room.Files = -1
	}
	var root unix.Statfs_t
	if unix.Statfs("/", &root) == nil {
		room.Root = root.Fsid == fs.Fsid
	}
	return room
}

// maxLinks is how many links the kernel follows in one path.
const maxLinks = 40

// followed is where a path leads to, whether anything is there or not.
func followed(name string) string {
	for range maxLinks {
		target, err := os.Readlink(name)
		if err != nil {
			break
		}
		if !path.IsAbs(target) {
			target = path.Join(realDir(path.Dir(name)), target)
		}
		name = path.Clean(target)
	}
	return name
}

// realDir is a directory's path without links, since .. is meant from there.
func realDir(name string) string {
	if real, err := filepath.EvalSymlinks(name); err == nil {
		return real
	}
	return name
}

// failure words an error of the system's for somebody who asked for a path.
func failure(err error) error {
	kind := ""
	switch {
	case errors.Is(err, fs.ErrNotExist):
		kind = "not_found"
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.EISDIR):
		kind = "conflict"
	}
	return &wire.FileError{Kind: kind, Message: err.Error()}
}

// All are the streams of the control port that carry files.
func (s *Server) All() map[string]func(io.Reader, io.Writer) error {
	return map[string]func(io.Reader, io.Writer) error{
		wire.PathStat: s.Stat, wire.PathRead: s.Read, wire.PathWrite: s.Write,
		wire.PathChanges: s.Changes, wire.PathPick: s.Pick, wire.PathRemove: s.Remove, wire.PathSeal: s.Seal,
	}
}

func readAll(body io.Reader, req any) error {
	b, err := io.ReadAll(io.LimitReader(body, wire.MaxFilesRequest))
	if err != nil {
		return err
	}
	return decode(b, req)
}

// readLine reads the object before a tar.
func readLine(in *bufio.Reader, req any) error {
	var line []byte
	for len(line) < wire.MaxFilesRequest {
		part, err := in.ReadSlice('\n')
		line = append(line, part...)
		if err == nil {
			return decode(line, req)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
	return &wire.FileError{Kind: "invalid", Message: "the request is too long"}
}

func decode(b []byte, req any) error {
	if err := json.Unmarshal(b, req); err != nil {
		return &wire.FileError{Kind: "invalid", Message: "the request cannot be read: " + err.Error()}
	}
	return nil
}
