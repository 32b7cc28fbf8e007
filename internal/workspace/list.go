package workspace

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// listing is what of a source is copied, by paths below its root.
type listing struct {
	files []string // regular files and links
	dirs  []string // that would be empty
	repos []nested // the repositories whose .git is to be made, the outermost first
}

// nested is a repository at a path below the root; "." is the root itself.
type nested struct {
	at string
	source
}

// ways are the choices that a user has in what is copied.
type ways struct {
	exclude []string // patterns as path.Match has them, for what is no repository
	include []string // pathspecs of ignored files
}

// defaultExcludes are left out of a directory that is no repository.
var defaultExcludes = []string{"node_modules", "__pycache__", ".venv", ".cache", "target"}

func list(ctx context.Context, s source, w ways) (listing, error) {
	var l listing
	var err error
	switch {
	case s.tree != s.root:
		l.repos = []nested{{at: ".", source: s}}
		err = l.directory(ctx, s.tree, ways{})
		l.dirs = nil
	case s.repo:
		err = l.repository(ctx, nested{at: ".", source: s}, w)
	default:
		w.exclude = slices.Concat(defaultExcludes, w.exclude)
		err = l.directory(ctx, s.root, w)
	}
	slices.Sort(l.files)
	l.files = slices.Compact(l.files) // an entry of the index in conflict has up to three
	return l, err
}

// repository lists tracked files as they are in the working tree, and untracked
// ones that are not ignored.
func (l *listing) repository(ctx context.Context, r nested, w ways) error {
	l.repos = append(l.repos, r)
	g := inRepository(r.root)
	names, err := g.run(ctx, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	if err != nil {
		return err
	}
	if len(w.include) > 0 {
		more, err := g.run(ctx, append([]string{"ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--"}, w.include...)...)
		if err != nil {
			return err
		}
		names += more
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(names, "\x00"), "\x00") {
		if name == "" {
			continue
		}
		if err := l.add(ctx, r, strings.TrimSuffix(name, "/"), w); err != nil {
			return err
		}
	}
	return nil
}

// add takes one name of a repository: a file, or another repository.
func (l *listing) add(ctx context.Context, r nested, name string, w ways) error {
	full := filepath.Join(r.root, name)
	info, err := os.Lstat(full)
	at := path.Join(r.at, name)
	switch {
	case os.IsNotExist(err) || errors.Is(err, syscall.ENOTDIR):
		return nil // deleted, and not yet committed
	case err != nil:
		return err
	case info.Mode().IsRegular() || info.Mode()&fs.ModeSymlink != 0:
		l.files = append(l.files, at)
	case info.IsDir():
		inner, err := inspect(ctx, full)
		if err != nil {
			return err
		}
		if !inner.repo || inner.root != full {
			l.dirs = append(l.dirs, at) // a submodule that is not there yet
			return nil
		}
		return l.repository(ctx, nested{at: at, source: inner}, ways{include: w.include})
	}
	return nil
}

// directory lists a directory without asking git, but for what matches a pattern.
// Repositories below it are listed as such.
func (l *listing) directory(ctx context.Context, root string, w ways) error {
	return filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == root {
			return err
		}
		at, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		switch excluded := w.excludes(at); {
		case excluded && d.IsDir():
			return fs.SkipDir
		case excluded:
		case d.IsDir():
			return l.below(ctx, name, at, w)
		case d.Type().IsRegular() || d.Type()&fs.ModeSymlink != 0:
			l.files = append(l.files, at)
		}
		return nil
	})
}

// excludes says whether a pattern is that of a path, or of its last part.
func (w ways) excludes(at string) bool {
	return slices.ContainsFunc(w.exclude, func(pattern string) bool {
		base, _ := path.Match(pattern, path.Base(at))
		whole, _ := path.Match(pattern, at)
		return base || whole
	})
}

// below takes a directory: one that is a repository is listed at once.
func (l *listing) below(ctx context.Context, name, at string, w ways) error {
	if _, err := os.Lstat(filepath.Join(name, ".git")); err == nil {
		if inner, err := inspect(ctx, name); err == nil && inner.repo && inner.root == name {
			if err := l.repository(ctx, nested{at: at, source: inner}, ways{include: w.include}); err != nil {
				return err
			}
			return fs.SkipDir
		}
	}
	l.dirs = append(l.dirs, at)
	return nil
}
