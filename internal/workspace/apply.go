package workspace

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"banger.dev/banger"
	"banger.dev/banger/internal/agent/archive"
	"banger.dev/banger/internal/agent/wire"
)

// Apply brings the changes into the host's working tree: each file is merged
// with what the host has made of it since it was copied. All of it is done, or
// nothing. Index, HEAD and branches stay as they are.
func (e *Export) Apply(ctx context.Context) ([]File, error) {
	files, err := e.apply(ctx)
	return files, e.wrong(err)
}

func (e *Export) apply(ctx context.Context) ([]File, error) {
	theirs, err := e.own.diffTree(ctx, refBase, refGuest)
	if err != nil {
		return nil, err
	}
	root, err := archive.OpenDir(e.state.Root)
	if err != nil {
		return nil, banger.Errorf(banger.KindNotFound, "%s, which the workspace is a copy of: %w", e.state.Root, errors.Unwrap(err))
	}
	defer func() { _ = root.Close() }()
	if err := e.recordHost(ctx, root, theirs); err != nil {
		return nil, err
	}
	result, err := e.merge(ctx)
	if err != nil {
		return nil, err
	}
	todo, err := e.own.diffTree(ctx, refHost, result)
	if err != nil {
		return nil, err
	}
	files := []File{}
	for _, d := range todo {
		if err := judge(d.path); err != nil {
			return nil, err
		}
		files = append(files, File{d.status, d.path})
	}
	return files, e.place(ctx, root, todo)
}

// recordHost makes a commit of what the host has now of the files that the guest
// has changed, and notes how they are.
func (e *Export) recordHost(ctx context.Context, root *os.File, theirs []difference) error {
	tree := archive.NewTree(root)
	defer tree.Close()
	i := importing{src: source{tree: e.state.Root}}
	e.merged = map[string]version{}
	return fastImport(ctx, e.own, func(w *bufio.Writer) error {
		commit(w, refHost, refBase)
		for _, d := range theirs {
			st, there, err := fileAt(tree, d.path)
			if err != nil {
				return err
			}
			e.merged[d.path] = versionOf(st)
			if !there {
				fmt.Fprintf(w, "D %s\n", quote(d.path))
				continue
			}
			f := hostFile{Path: wire.Text(d.path), Mode: modeOf(st)}
			if f.Mode == "" {
				return banger.Errorf(banger.KindConflict, "%s is no file here", quote(d.path))
			}
			fmt.Fprintf(w, "M %s inline %s\n", f.Mode, quote(d.path))
			if err := i.content(w, f); err != nil {
				return err
			}
		}
		return nil
	})
}

// fileAt is what is at a path of the working tree and could be a file of a commit.
func fileAt(tree archive.Tree, name string) (st unix.Stat_t, there bool, err error) {
	st, err = tree.Lstat(name)
	if archive.IsAbsent(err) || err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return unix.Stat_t{}, false, nil
	}
	return st, err == nil, err
}

// version tells a file from what somebody writes in its place; zero if none is there.
type version struct {
	ino  uint64
	size int64
	mode uint32
	time unix.Timespec
}

func versionOf(st unix.Stat_t) version { return version{st.Ino, st.Size, st.Mode, st.Mtim} }

// unchanged says whether a file is still the one that was merged with.
func (e *Export) unchanged(tree archive.Tree, name string) error {
	st, _, err := fileAt(tree, name)
	if err == nil && versionOf(st) != e.merged[name] {
		return banger.Errorf(banger.KindConflict, "%s was changed here while the changes were applied; nothing is applied", quote(name)).
			WithNext("banger vm workspace export --apply %s", e.vm.Name)
	}
	return err
}

// modeOf is how git writes the mode of a file, "" for what it does not hold.
func modeOf(st unix.Stat_t) string {
	switch {
	case st.Mode&unix.S_IFMT == unix.S_IFLNK:
		return "120000"
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return ""
	case st.Mode&0o100 != 0:
		return "100755"
	}
	return "100644"
}

// merge gives the tree of both sides' changes.
func (e *Export) merge(ctx context.Context) (tree string, err error) {
	out, err := e.own.run(ctx, "merge-tree", "--write-tree", "-z", "--name-only", "--no-messages", refHost, refGuest)
	tree, rest, _ := strings.Cut(out, "\x00")
	if err == nil {
		return tree, nil
	}
	if exitCode(err) != 1 {
		return "", err
	}
	names := strings.Split(strings.Trim(rest, "\x00"), "\x00")
	return "", banger.Errorf(banger.KindConflict, "%s was changed here and in %s, in the same places; nothing is applied", few(names), e.vm.Name).
		WithNext("banger vm workspace export %s > changes.patch", e.vm.Name)
}

// place puts files into the working tree: they are made beside it first, on the
// same file system, then moved in, and moved back should one of them fail.
func (e *Export) place(ctx context.Context, root *os.File, todo []difference) (err error) {
	stage, err := os.MkdirTemp(e.stageDir(), ".banger-apply-")
	if err != nil {
		return err
	}
	defer func() { err = leave(stage, err) }()
	staged, err := archive.OpenDir(stage)
	if err != nil {
		return err
	}
	defer func() { _ = staged.Close() }()
	for n, d := range todo {
		if err := e.stage(ctx, stage, n, d); err != nil {
			return err
		}
	}
	tree := archive.NewTree(root)
	defer tree.Close()
	var undo []func() error
	defer func() {
		for n := len(undo) - 1; err != nil && n >= 0; n-- {
			err = errors.Join(err, undo[n]())
		}
	}()
	for _, removing := range []bool{true, false} { // a file may become a directory
		for n, d := range todo {
			if removing != (d.status == "D") {
				continue
			}
			if err := e.unchanged(tree, d.path); err != nil {
				return err
			}
			back, err := tree.Swap(d.path, staged, name("new", n), name(oldFile, n))
			if err != nil {
				return fmt.Errorf("%s: %w", quote(d.path), err)
			}
			undo = append(undo, back)
		}
	}
	for _, d := range todo {
		if d.status == "D" {
			tree.Prune(d.path)
		}
	}
	return nil
}

// oldFile begins the names of what was in the working tree.
const oldFile = "old"

// leave removes the directory beside the working tree when it is of no more use.
// After an apply that failed, a file of the user's in it is one that could not be
// moved back, and there is no other.
func leave(stage string, failed error) error {
	if failed != nil {
		entries, err := os.ReadDir(stage)
		if err != nil || slices.ContainsFunc(entries, func(f os.DirEntry) bool { return strings.HasPrefix(f.Name(), oldFile) }) {
			return fmt.Errorf("%w; files that could not be moved back are kept in %s", failed, stage)
		}
	}
	_ = os.RemoveAll(stage)
	return failed
}

func name(kind string, n int) string { return fmt.Sprintf("%s-%d", kind, n) }

// stageDir is a directory on the file system of the working tree in which nobody
// looks for files of it.
func (e *Export) stageDir() string {
	git := filepath.Join(e.state.Root, ".git")
	if info, err := os.Lstat(git); err == nil && info.IsDir() {
		return git
	}
	return e.state.Root
}

func (e *Export) stage(ctx context.Context, dir string, n int, d difference) error {
	to := filepath.Join(dir, name("new", n))
	switch d.mode {
	case "000000":
		return nil
	case "120000":
		target, err := e.own.run(ctx, "cat-file", "blob", d.id)
		if err != nil {
			return err
		}
		return os.Symlink(target, to)
	}
	mode := os.FileMode(0o666)
	if d.mode == "100755" {
		mode = 0o777
	}
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode) // the umask is the user's wish
	if err != nil {
		return err
	}
	err = e.own.pipe(ctx, nil, io.Writer(f), "cat-file", "blob", d.id)
	return errors.Join(err, f.Close())
}
