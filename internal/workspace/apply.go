package workspace

import (
	"bufio"
	"context"
	"errors"
	"fmt"
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
	if err := e.recordHost(ctx, theirs); err != nil {
		return nil, err
	}
	if err := e.mergeable(ctx, theirs); err != nil {
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
	return files, e.place(ctx, todo)
}

// recordHost makes a commit of what the host has now of the files that the guest
// has changed, and notes how they are.
func (e *Export) recordHost(ctx context.Context, theirs []difference) error {
	root, err := archive.OpenDir(e.state.Root)
	if err != nil {
		return banger.Errorf(banger.KindNotFound, "%s, which the workspace is a copy of: %w", e.state.Root, errors.Unwrap(err))
	}
	defer func() { _ = root.Close() }()
	tree := archive.NewTree(root)
	defer tree.Close()
	i := importing{src: source{tree: e.state.Root}}
	e.merged = map[string]version{}
	copied := map[string]string{}
	for _, f := range e.state.Host {
		copied[string(f.Path)] = f.Stamp
	}
	return fastImport(ctx, e.own, func(w *bufio.Writer) error {
		commit(w, refHost, refBase)
		for _, d := range theirs {
			st, there, err := fileAt(tree, d.path)
			if err != nil {
				return err
			}
			e.merged[d.path] = versionOf(st)
			if there && copied[d.path] == stamp(st) {
				continue // it is what the base has
			}
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
	Ino  uint64 `json:"ino"`
	Size int64  `json:"size"`
	Mode uint32 `json:"mode"`
	Time int64  `json:"time"`
}

func versionOf(st unix.Stat_t) version { return version{st.Ino, st.Size, st.Mode, st.Mtim.Nano()} }

// versionAt is what is at a path of the working tree now.
func versionAt(tree archive.Tree, name string) (version, error) {
	st, _, err := fileAt(tree, name)
	return versionOf(st), err
}

// unchanged says whether a file is still the one that was merged with.
func (e *Export) unchanged(tree archive.Tree, name string) error {
	now, err := versionAt(tree, name)
	if err == nil && now != e.merged[name] {
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
	return "", e.conflict(names)
}

func (e *Export) conflict(names []string) error {
	return banger.Errorf(banger.KindConflict, "%s was changed here and in %s, in the same places; nothing is applied", few(names), e.vm.Name).
		WithNext("banger vm workspace export %s > changes.patch", e.vm.Name)
}

// mergeable says whether git could merge the files that both sides have changed,
// for which it holds them in memory. One that is too large is in conflict.
func (e *Export) mergeable(ctx context.Context, theirs []difference) error {
	ours, err := e.own.diffTree(ctx, refBase, refHost)
	if err != nil {
		return err
	}
	made := map[string]string{}
	for _, d := range theirs {
		made[d.path] = d.id
	}
	both := map[string]string{}
	for _, d := range ours {
		if made[d.path] != d.id {
			both[d.before], both[d.id] = d.path, d.path
		}
	}
	large, err := e.tooLarge(ctx, both)
	if err != nil || len(large) == 0 {
		return err
	}
	return e.conflict(slices.Compact(large))
}
