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

// Carried is the commit that a repository of the host's has got as a branch.
type Carried struct {
	Path   string `json:"path"` // of the repository in the workspace, "." for the outermost
	Commit string `json:"commit"`
}

// Branch brings the commits of the guest's HEAD into the host's repository, as a
// new branch, and those that were made in its submodules into theirs. The guest's
// objects are looked through by git in a repository of ours, and fetched from
// there: what fails its checks comes no further.
func (e *Export) Branch(ctx context.Context, name string) ([]Carried, error) {
	carried, err := e.branch(ctx, name)
	return carried, e.wrong(err)
}

func (e *Export) branch(ctx context.Context, name string) ([]Carried, error) {
	if e.state.Common == "" {
		return nil, banger.Errorf(banger.KindConflict, "%s is no repository, and has no branches", e.state.Root).
			WithNext("banger vm workspace export --apply %s", e.vm.Name)
	}
	all, err := e.carriers(ctx, name)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, banger.Errorf(banger.KindConflict, "%s has made no commit in %s", e.vm.Name, e.state.Path).
			WithNext("banger vm workspace export --apply %s", e.vm.Name)
	}
	for _, c := range all {
		if err := c.check(ctx); err != nil {
			return nil, err
		}
	}
	for _, c := range all {
		if err := e.linked(ctx, c, all); err != nil {
			return nil, err
		}
	}
	return fetchAll(ctx, all)
}

// fetchAll fetches from all or from none. The innermost come first: a commit is
// nowhere before what it refers to.
func fetchAll(ctx context.Context, all []*carrier) ([]Carried, error) {
	var done []Carried
	for n, c := range slices.Backward(all) {
		if err := c.host.fetch(ctx, c.checked, "refs/heads/export:"+c.ref); err != nil {
			for _, c := range all[n+1:] {
				_, failed := c.host.run(ctx, "update-ref", "-d", c.ref, c.commit)
				err = errors.Join(err, failed)
			}
			return nil, err
		}
		done = append(done, Carried{c.At, c.commit})
	}
	slices.Reverse(done)
	return done, nil
}

// carrier brings the commits of one repository.
type carrier struct {
	repository
	e       *Export
	host    git
	ref     string // that is made on the host
	commit  string
	checked string // the repository that holds what has passed
}

// carriers are those of the repositories in which the guest has made commits.
func (e *Export) carriers(ctx context.Context, name string) ([]*carrier, error) {
	repos := e.state.Repos
	if len(repos) == 0 { // prepared by a banger that knew of the outermost alone
		repos = []repository{{At: ".", Root: e.state.Root, Common: e.state.Common, Head: e.state.Head, Format: e.state.Format}}
	}
	var all []*carrier
	for _, r := range repos {
		c := &carrier{repository: r, e: e, host: inRepository(r.Root), ref: "refs/heads/" + name}
		if _, err := c.host.run(ctx, "check-ref-format", c.ref); err != nil {
			return nil, banger.Errorf(banger.KindInvalid, "%q is no name for a branch", name)
		}
		var err error
		if c.commit, err = c.guestHead(ctx); err != nil {
			return nil, err
		}
		if c.commit == "" || c.commit == r.Head {
			continue
		}
		if _, err := c.host.run(ctx, "rev-parse", "--verify", "--quiet", c.ref); err == nil {
			return nil, banger.Errorf(banger.KindConflict, "%s has a branch %s already", r.Root, name).WithNext("git -C %s branch --list %s", quote(r.Root), name)
		}
		all = append(all, c)
	}
	return all, nil
}

// check brings the guest's objects into a repository where they have passed the
// checks of git fsck. Twice: a fetch that fails leaves something behind, and not
// in the host's.
func (c *carrier) check(ctx context.Context) error {
	dir, err := os.MkdirTemp(c.e.dir, "branch-")
	if err != nil {
		return err
	}
	raw := filepath.Join(dir, "raw.git")
	c.checked = filepath.Join(dir, "checked.git")
	if err := c.quarantine(ctx, raw); err != nil {
		return err
	}
	if err := c.quarantine(ctx, c.checked); err != nil {
		return err
	}
	if err := c.objects(ctx, raw); err != nil {
		return err
	}
	if _, err := inOwn(raw).run(ctx, "update-ref", "refs/heads/export", c.commit); err != nil {
		return unfit(c.e.vm.Name, err)
	}
	if err := inOwn(c.checked).fetch(ctx, raw, "refs/heads/export:refs/heads/export"); err != nil {
		return unfit(c.e.vm.Name, err)
	}
	return nil
}

// linked says whether the submodules' commits that the new tree of a repository
// refers to are on the host, or come along.
func (e *Export) linked(ctx context.Context, c *carrier, all []*carrier) error {
	g := inOwn(c.checked)
	from := c.Head
	if from == "" {
		from = emptyTree[c.Format]
	}
	links, err := g.diffTree(ctx, from, "refs/heads/export")
	if err != nil {
		return err
	}
	for _, l := range links {
		if l.mode != "160000" {
			continue
		}
		if err := e.reached(ctx, path.Join(c.At, l.path), l.id, all); err != nil {
			return err
		}
	}
	return nil
}

// emptyTree is the name of a tree that holds nothing.
var emptyTree = map[string]string{
	"sha1": "4b825dc642cb6eb9a060e54bf8d69288fbee4904", "sha256": "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321",
}

// reached says whether a commit of a submodule is on the host, or comes along.
func (e *Export) reached(ctx context.Context, at, id string, all []*carrier) error {
	n := slices.IndexFunc(e.state.Repos, func(r repository) bool { return r.At == at })
	if n < 0 {
		return banger.Errorf(banger.KindConflict, "the submodule %s was made in %s, and has no repository here", quote(at), e.vm.Name).
			WithNext("banger vm workspace export --apply %s, which brings its files", e.vm.Name)
	}
	ask := []string{"cat-file", "-e", id + "^{commit}"}
	g := inRepository(e.state.Repos[n].Root)
	if n := slices.IndexFunc(all, func(c *carrier) bool { return c.At == at }); n >= 0 {
		g, ask = inOwn(all[n].checked), []string{"merge-base", "--is-ancestor", id, "refs/heads/export"}
	}
	if _, err := g.run(ctx, ask...); err != nil {
		return banger.Errorf(banger.KindConflict, "the commit %.12s of the submodule %s is neither here nor the one that is checked out in %s", id, quote(at), e.vm.Name).
			WithNext("banger vm exec -w %s %s -- git checkout %.12s, and export again", quote(path.Join(e.state.Path, at)), e.vm.Name, id)
	}
	return nil
}

// quarantine makes a repository whose objects build on the host's.
func (c *carrier) quarantine(ctx context.Context, dir string) error {
	if _, err := inOwn(dir).run(ctx, "init", "--quiet", "--bare", "--template=", "--object-format="+c.Format, dir); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, "objects/info"), 0o700); err != nil {
		return err
	}
	alternates := strings.Join(objectDirs(c.Common), "\n") + "\n"
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

// inGuest is the path of a file of the repository's .git.
func (c *carrier) inGuest(name string) string { return path.Join(c.At, ".git", name) }

// guestHead is the commit that the guest's HEAD means, read from its files, "" if
// the repository is gone.
func (c *carrier) guestHead(ctx context.Context) (string, error) {
	e := c.e
	head, err := e.small(ctx, c.inGuest("HEAD"))
	if err != nil {
		return "", err
	}
	head = strings.TrimSpace(head)
	if head == "" && c.At != "." {
		return "", nil
	}
	ref, symbolic := strings.CutPrefix(head, "ref: ")
	if !symbolic {
		return checkedCommit(head)
	}
	if !branchRef().MatchString(ref) || !filepath.IsLocal(ref) || path.Clean(ref) != ref {
		return "", banger.Errorf(banger.KindUnavailable, "HEAD of %s:%s means %.100q, which is no branch", e.vm.Name, path.Join(e.state.Path, c.At), ref)
	}
	loose, err := e.small(ctx, c.inGuest(ref))
	if err != nil {
		return "", err
	}
	if loose != "" {
		return checkedCommit(strings.TrimSpace(loose))
	}
	packed, err := e.small(ctx, c.inGuest("packed-refs"))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(packed) {
		if id, name, _ := strings.Cut(strings.TrimSpace(line), " "); name == ref {
			return checkedCommit(id)
		}
	}
	if c.Head == "" {
		return "", nil
	}
	return "", banger.Errorf(banger.KindConflict, "%s:%s has no commit on its branch", e.vm.Name, path.Join(e.state.Path, c.At))
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
func (c *carrier) objects(ctx context.Context, dir string) error {
	e, store := c.e, c.inGuest("objects")+"/"
	changes, err := e.vm.Guest.Changes(ctx, wire.ChangesRequest{Place: e.state.Place, Git: true}, e.state.Stamps)
	if err != nil {
		return err
	}
	var names []string
	for _, f := range changes {
		name, ok := strings.CutPrefix(string(f.Path), store)
		if ok && !f.Gone && f.Mode&unix.S_IFMT == unix.S_IFREG && objectFile().MatchString(name) && !strings.HasSuffix(name, ".promisor") {
			names = append(names, string(f.Path))
		}
	}
	slices.Sort(names)
	return e.pick(ctx, names, func(name string, hdr *tar.Header, r io.Reader) error {
		if hdr.Typeflag != tar.TypeReg {
			return banger.Errorf(banger.KindUnavailable, "the guest sends %.200q as something that is no file", name)
		}
		to := filepath.Join(dir, "objects", strings.TrimPrefix(name, store))
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
