// Package filesync puts small files of the user's into a VM when it has
// started: a git identity, the credentials of a tool. It runs in the client,
// which alone may read the user's home; the agent writes, with the rights of
// the VM's user. Nothing comes back, and nothing is watched.
package filesync

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/agent/archive"
	"banger.dev/banger/internal/agent/wire"
	"banger.dev/banger/internal/guest"
)

// Bounds of what is read: these are settings and keys, not data.
const (
	maxFile  = 1 << 20
	maxFiles = 1000
	maxTotal = 16 << 20
)

// Wanted are the files that words stand for; words are Spec.Sync. Without any,
// a VM gets those of config.toml, unless it is ephemeral.
func Wanted(words []string, ephemeral bool, configured []banger.Sync) ([]banger.Sync, error) {
	if len(words) == 0 && !ephemeral {
		words = []string{banger.SyncConfig}
	}
	var all []banger.Sync
	for _, word := range words {
		switch word {
		case banger.SyncNone:
		case banger.SyncConfig:
			all = append(all, configured...)
		default:
			s, err := banger.ParseSync(word)
			if err != nil {
				return nil, err
			}
			all = append(all, s)
		}
	}
	return all, nil
}

// File is one file to be put into a VM.
type File struct {
	Target  string // below the home of the VM's user
	Mode    fs.FileMode
	Time    time.Time
	Content []byte
}

// Read gives the files that all name below home. What is not there is missing,
// and no error.
func Read(home string, all []banger.Sync) (files []File, missing []banger.Sync, err error) {
	if len(all) == 0 {
		return nil, nil, nil
	}
	r, err := newReader(home)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = r.root.Close() }()
	for _, s := range all {
		err := r.read(s)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			missing = append(missing, s)
		case err != nil:
			return nil, nil, banger.Errorf(banger.KindInvalid, "%s is not put into a VM: %w", s.Source, err)
		}
	}
	return r.files, missing, nil
}

type reader struct {
	home  string // without links
	root  *os.Root
	files []File
	total int
}

func newReader(home string) (*reader, error) {
	if !filepath.IsAbs(home) {
		return nil, banger.Errorf(banger.KindUnavailable, "HOME does not say where your files are: %q", home).WithNext("echo $HOME")
	}
	real, err := filepath.EvalSymlinks(home)
	if err != nil {
		return nil, banger.Errorf(banger.KindUnavailable, "your home: %w", err).WithNext("echo $HOME")
	}
	root, err := os.OpenRoot(real)
	if err != nil {
		return nil, banger.Errorf(banger.KindUnavailable, "your home: %w", err).WithNext("echo $HOME")
	}
	return &reader{home: real, root: root}, nil
}

func (r *reader) read(s banger.Sync) error {
	name, err := r.resolve(below(s.Source))
	if err != nil {
		return err
	}
	info, err := r.root.Lstat(name)
	switch {
	case err != nil:
		return cause(err)
	case info.IsDir():
		return r.dir(name, below(s.To()), s.FileMode())
	case !info.Mode().IsRegular():
		return errors.New("it is neither a file nor a directory")
	}
	return r.file(name, below(s.To()), s.FileMode())
}

// resolve follows links as long as they stay in the home. The path that it
// gives has none; should one be put there now, root does not follow it out.
func (r *reader) resolve(name string) (string, error) {
	real, err := filepath.EvalSymlinks(filepath.Join(r.home, name))
	if err != nil {
		return "", cause(err)
	}
	rel, err := filepath.Rel(r.home, real)
	if err != nil || !filepath.IsLocal(rel) {
		return "", fmt.Errorf("it leads out of your home, to %s", real)
	}
	return rel, nil
}

// dir reads the files in a directory. Links in it are not followed.
func (r *reader) dir(name, target string, mode fs.FileMode) error {
	return fs.WalkDir(r.root.FS(), filepath.ToSlash(name), func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(name, p)
		if err != nil {
			return err
		}
		return r.file(p, path.Join(target, rel), mode)
	})
}

func (r *reader) file(name, target string, mode fs.FileMode) error {
	f, err := r.root.Open(name)
	if err != nil {
		return cause(err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return cause(err)
	}
	content, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return cause(err)
	}
	r.total += len(content)
	switch {
	case len(content) > maxFile:
		return fmt.Errorf("%s has more than %s; banger vm cp copies it", name, banger.Bytes(maxFile))
	case len(r.files) == maxFiles || r.total > maxTotal:
		return fmt.Errorf("there are more than %d files or %s; banger vm cp copies them", maxFiles, banger.Bytes(maxTotal))
	}
	r.files = append(r.files, File{Target: target, Mode: mode, Time: info.ModTime(), Content: content})
	return nil
}

func below(name string) string { return path.Clean(strings.TrimPrefix(name, "~/")) }

func cause(err error) error {
	var place *fs.PathError
	if errors.As(err, &place) {
		return place.Err
	}
	return err
}

// Write puts files into a guest, below the home of the VM's user.
func Write(ctx context.Context, g guest.Files, files []File) error {
	if len(files) == 0 {
		return nil
	}
	_, err := g.Write(ctx, wire.WriteFiles{Place: wire.Place{Path: ".", Own: true}}, func(w io.Writer) error {
		p := archive.NewPacker(w)
		var made []string
		for _, f := range files {
			if err := dirs(p, &made, path.Dir(f.Target)); err != nil {
				return err
			}
			hdr := &tar.Header{Name: f.Target, Typeflag: tar.TypeReg, Mode: int64(f.Mode), ModTime: f.Time}
			if err := p.Content(hdr, f.Content); err != nil {
				return err
			}
		}
		return p.Close()
	})
	if err != nil {
		return banger.Errorf(banger.KindOf(err), "your files are not in the VM: %w", err)
	}
	return nil
}

// dirs packs a directory and those above it, each once; a new one is for its
// owner alone.
func dirs(p *archive.Packer, made *[]string, name string) error {
	if name == "." || slices.Contains(*made, name) {
		return nil
	}
	if err := dirs(p, made, path.Dir(name)); err != nil {
		return err
	}
	*made = append(*made, name)
	return p.Content(&tar.Header{Name: name + "/", Typeflag: tar.TypeDir, Mode: 0o700, ModTime: time.Now()}, nil)
}
