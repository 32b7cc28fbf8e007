package workspace

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"banger.dev/banger"
	"banger.dev/banger/internal/agent/wire"
)

// Branch brings the commits of the guest's HEAD into the host's repository, as a
// new branch. The guest's objects are looked through by git in a repository of
// ours, and fetched from there: what fails its checks comes no further.
func (e *Export) Branch(ctx context.Context, name string) (commit string, err error) {
	commit, err = e.branch(ctx, name)
	return commit, e.wrong(err)
}

func (e *Export) branch(ctx context.Context, name string) (string, error) {
	if e.state.Common == "" {
		return "", banger.Errorf(banger.KindConflict, "%s is no repository, and has no branches", e.state.Root).
			WithNext("banger vm workspace export --apply %s", e.vm.Name)
	}
	host := inRepository(e.state.Root)
	ref := "refs/heads/" + name
	if _, err := host.run(ctx, "check-ref-format", ref); err != nil {
		return "", banger.Errorf(banger.KindInvalid, "%q is no name for a branch", name)
	}
	if _, err := host.run(ctx, "rev-parse", "--verify", "--quiet", ref); err == nil {
		return "", banger.Errorf(banger.KindConflict, "%s has a branch %s already", e.state.Root, name).WithNext("git branch --list %s", name)
	}
	dir, err := os.MkdirTemp(e.dir, "branch-")
	if err != nil {
		return "", err
	}
	commit, err := e.guestHead(ctx)
	if err != nil {
		return "", err
	}
	if commit == e.state.Head {
		return "", banger.Errorf(banger.KindConflict, "%s has made no commit in %s", e.vm.Name, e.state.Path).
			WithNext("banger vm workspace export --apply %s", e.vm.Name)
	}
	// Twice: a fetch that fails leaves something behind, and not in the host's.
	raw, checked := filepath.Join(dir, "raw.git"), filepath.Join(dir, "checked.git")
	if err := e.quarantine(ctx, raw); err != nil {
		return "", err
	}
	if err := e.quarantine(ctx, checked); err != nil {
		return "", err
	}
	if err := e.objects(ctx, raw); err != nil {
		return "", err
	}
	if _, err := inOwn(raw).run(ctx, "update-ref", "refs/heads/export", commit); err != nil {
		return "", unfit(e.vm.Name, err)
	}
	if err := inOwn(checked).fetch(ctx, raw, "refs/heads/export:refs/heads/export"); err != nil {
		return "", unfit(e.vm.Name, err)
	}
	return commit, host.fetch(ctx, checked, "refs/heads/export:"+ref)
}

// quarantine makes a repository whose objects build on the host's.
func (e *Export) quarantine(ctx context.Context, dir string) error {
	if _, err := inOwn(dir).run(ctx, "init", "--quiet", "--bare", "--template=", "--object-format="+e.state.Format, dir); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, "objects/info"), 0o700); err != nil {
		return err
	}
	alternates := strings.Join(objectDirs(e.state.Common), "\n") + "\n"
	return os.WriteFile(filepath.Join(dir, "objects/info/alternates"), []byte(alternates), 0o600)
}

// fetch takes a reference of another repository on this disk, and looks through
// each object that comes with it.
func (g git) fetch(ctx context.Context, from, ref string) error {
	_, err := g.run(ctx, "-c", "protocol.file.allow=always", "-c", "fetch.fsckObjects=true", "-c", "fetch.unpackLimit=1",
		"fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", "--no-recurse-submodules", "file://"+from, ref)
	return err
}

func unfit(vm string, err error) error {
	return banger.Errorf(banger.KindUnavailable, "the commits of %s are not fit to be taken: %w", vm, err).
		WithNext("banger vm workspace export %s > changes.patch", vm)
}

var (
	commitName = pattern(`^([0-9a-f]{40}|[0-9a-f]{64})$`)
	branchRef  = pattern(`^refs/heads/[^\x00-\x20~^:?*\[\\]{1,200}$`)
)

// guestHead is the commit that the guest's HEAD means, read from its files.
func (e *Export) guestHead(ctx context.Context) (string, error) {
	head, err := e.small(ctx, ".git/HEAD")
	if err != nil {
		return "", err
	}
	head = strings.TrimSpace(head)
	ref, symbolic := strings.CutPrefix(head, "ref: ")
	if !symbolic {
		return checkedCommit(head)
	}
	if !branchRef().MatchString(ref) || !filepath.IsLocal(ref) || path.Clean(ref) != ref {
		return "", banger.Errorf(banger.KindUnavailable, "HEAD of %s:%s means %.100q, which is no branch", e.vm.Name, e.state.Path, ref)
	}
	loose, err := e.small(ctx, ".git/"+ref)
	if err != nil {
		return "", err
	}
	if loose != "" {
		return checkedCommit(strings.TrimSpace(loose))
	}
	packed, err := e.small(ctx, ".git/packed-refs")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(packed) {
		if id, name, _ := strings.Cut(strings.TrimSpace(line), " "); name == ref {
			return checkedCommit(id)
		}
	}
	return "", banger.Errorf(banger.KindConflict, "%s:%s has no commit on its branch", e.vm.Name, e.state.Path)
}

func checkedCommit(id string) (string, error) {
	if !commitName().MatchString(id) {
		return "", banger.Errorf(banger.KindUnavailable, "the guest names a commit %.100q, which is no name of one", id)
	}
	return id, nil
}

// small is the content of a small file of the guest's, "" if it is not there.
func (e *Export) small(ctx context.Context, name string) (string, error) {
	const most = 16 << 20
	content := ""
	err := e.pick(ctx, []string{name}, func(_ string, hdr *tar.Header, r io.Reader) error {
		if hdr.Typeflag != tar.TypeReg || hdr.Size > most {
			return banger.Errorf(banger.KindUnavailable, "%s of the guest is no file that git would make", name)
		}
		b, err := io.ReadAll(r)
		content = string(b)
		return err
	})
	return content, err
}

// objects reads the guest's new objects into a quarantine.
func (e *Export) objects(ctx context.Context, dir string) error {
	changes, err := e.vm.Guest.Changes(ctx, wire.ChangesRequest{Place: e.state.Place, Git: true}, e.state.Stamps)
	if err != nil {
		return err
	}
	var names []string
	for _, c := range changes {
		name, ok := strings.CutPrefix(string(c.Path), ".git/objects/")
		if ok && !c.Gone && c.Mode&unix.S_IFMT == unix.S_IFREG && objectFile().MatchString(name) && !strings.HasSuffix(name, ".promisor") {
			names = append(names, string(c.Path))
		}
	}
	slices.Sort(names)
	return e.pick(ctx, names, func(name string, hdr *tar.Header, r io.Reader) error {
		if hdr.Typeflag != tar.TypeReg {
			return banger.Errorf(banger.KindUnavailable, "the guest sends %.200q as something that is no file", name)
		}
		to := filepath.Join(dir, "objects", strings.TrimPrefix(name, ".git/objects/"))
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			return err
		}
		f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		_, err = io.Copy(f, r)
		return errors.Join(err, f.Close())
	})
}
