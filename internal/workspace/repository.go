package workspace

import (
	"bufio"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"banger.dev/banger"
)

// source is what is copied: a repository, or a directory that is none.
type source struct {
	root string // of the working tree, without links
	tree string // where the files are read: root, unless they are of a commit
	sub  string // what was asked for, below root
	repo bool

	gitDir    string // of this working tree
	commonDir string // of all of them
	head      string // the commit, "" before the first
	branch    string // refs/heads/…, "" if none is checked out
	format    string // of object names: sha1 or sha256
}

// inspect looks at a path of the user's.
func inspect(ctx context.Context, name string) (source, error) {
	real, err := filepath.Abs(name)
	if err == nil {
		real, err = filepath.EvalSymlinks(real)
	}
	if errors.Is(err, os.ErrNotExist) {
		return source{}, banger.Errorf(banger.KindNotFound, "%s is not there", name).WithNext("ls %s", quote(filepath.Dir(name)))
	}
	if err != nil {
		return source{}, banger.Errorf(banger.KindInvalid, "%s: %w", name, err).WithNext("ls -ld %s", quote(name))
	}
	if info, err := os.Stat(real); err != nil || !info.IsDir() {
		return source{}, banger.Errorf(banger.KindInvalid, "%s is no directory", name).WithNext("ls -ld %s", quote(name))
	}
	g := inRepository(real)
	out, err := g.run(ctx, "rev-parse", "--is-bare-repository", "--is-inside-git-dir", "--absolute-git-dir")
	var failed *gitError
	if errors.As(err, &failed) && strings.Contains(failed.said, "not a git repository") {
		return source{root: real, tree: real, sub: ".", format: "sha1"}, nil
	}
	if err != nil {
		return source{}, unusable(name, err)
	}
	words := strings.SplitN(strings.TrimSuffix(out, "\n"), "\n", 3)
	if len(words) != 3 || words[0] == "true" || words[1] == "true" {
		return source{}, banger.Errorf(banger.KindInvalid, "%s is a repository without a working tree, and there is nothing to copy", name).
			WithNext("git worktree add /tmp/tree")
	}
	return described(ctx, g, source{repo: true, gitDir: words[2]}, real, name)
}

func described(ctx context.Context, g git, s source, real, name string) (source, error) {
	var err error
	ask := func(to *string, args ...string) {
		if err == nil {
			*to, err = g.run(ctx, args...)
			*to = strings.TrimSuffix(*to, "\n")
		}
	}
	ask(&s.root, "rev-parse", "--show-toplevel")
	ask(&s.commonDir, "rev-parse", "--path-format=absolute", "--git-common-dir")
	ask(&s.format, "rev-parse", "--show-object-format")
	if err != nil {
		return source{}, unusable(name, err)
	}
	s.tree = s.root
	if s.sub, err = filepath.Rel(s.root, real); err != nil {
		return source{}, unusable(name, err)
	}
	// Neither need be: a repository without a commit, a HEAD that is detached.
	if head, err := g.run(ctx, "rev-parse", "--verify", "--quiet", "HEAD^{commit}"); err == nil {
		s.head = strings.TrimSpace(head)
	}
	if branch, err := g.run(ctx, "symbolic-ref", "--quiet", "HEAD"); err == nil {
		s.branch = strings.TrimSpace(branch)
	}
	return s, nil
}

// at is the source as a commit has it: its files are written into a scratch
// directory, by a repository of ours, so that no filter is run.
func (s source) at(ctx context.Context, ref, scratch string) (source, error) {
	if !s.repo {
		return s, banger.Errorf(banger.KindInvalid, "%s is no repository, and has no %s", s.root, ref).WithNext("git -C %s init", quote(s.root))
	}
	id, err := inRepository(s.root).run(ctx, "rev-parse", "--verify", "--quiet", "--end-of-options", ref+"^{commit}")
	if err != nil {
		return s, banger.Errorf(banger.KindNotFound, "%s has no commit %s", s.root, quote(ref)).WithNext("git -C %s log --oneline --all", quote(s.root))
	}
	dir := filepath.Join(scratch, "from.git")
	own := inOwn(dir, objectDirs(s.commonDir)...)
	if _, err := own.run(ctx, "init", "--quiet", "--bare", "--template=", "--object-format="+s.format); err != nil {
		return s, err
	}
	s.branch = ""
	if branch, err := inRepository(s.root).run(ctx, "rev-parse", "--symbolic-full-name", "--end-of-options", ref); err == nil && strings.HasPrefix(branch, "refs/heads/") {
		s.branch = strings.TrimSpace(branch)
	}
	s.head, s.gitDir, s.tree = strings.TrimSpace(id), dir, filepath.Join(scratch, "tree")
	if err := os.Mkdir(s.tree, 0o700); err != nil {
		return s, err
	}
	if _, err := own.run(ctx, "read-tree", s.head); err != nil {
		return s, err
	}
	own.args = append(own.args, "-C", s.tree, "-c", "core.bare=false")
	_, err = own.with("GIT_WORK_TREE="+s.tree).run(ctx, "checkout-index", "--all", "--quiet")
	return s, err
}

func unusable(name string, err error) error {
	var ours *banger.Error
	if errors.As(err, &ours) {
		return err
	}
	return banger.Errorf(banger.KindUnavailable, "%s cannot be copied: %w", name, err).WithNext("git -C %s status", quote(name))
}

// objectDirs are where the objects of a repository are: its own, and those that
// it borrows from.
func objectDirs(commonDir string) []string {
	var dirs []string
	var add func(dir string)
	add = func(dir string) {
		if slices.Contains(dirs, dir) || len(dirs) == 16 {
			return
		}
		dirs = append(dirs, dir)
		f, err := os.Open(filepath.Join(dir, "info/alternates"))
		if err != nil {
			return
		}
		defer func() { _ = f.Close() }()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			other := lines.Text()
			if other == "" || other[0] == '#' {
				continue
			}
			if !filepath.IsAbs(other) {
				other = filepath.Join(dir, other)
			}
			add(filepath.Clean(other))
		}
	}
	add(filepath.Join(commonDir, "objects"))
	return dirs
}
