package workspace

import (
	"archive/tar"
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"banger.dev/banger"
	"banger.dev/banger/internal/agent/archive"
	"banger.dev/banger/internal/agent/wire"
	"banger.dev/banger/internal/room"
)

// Export is what the guest has changed in a workspace since it was prepared. It
// is open until Close, which lets the next one have the workspace.
type Export struct {
	vm      VM
	slot    slot
	state   state
	dir     string // for this export alone
	own     git    // a repository in dir, over the base
	release func() error

	most    int64              // maxInMemory
	sparse  map[string]bool    // files of the guest's that have holes
	merged  map[string]version // the host's files that Apply merges with
	changed []string           // files that are new or other, and not ignored
	gone    []string
	LeftOut int    // files that no repository can hold: devices, pipes
	Note    string // what the user should know
}

// ExportOptions are what counts as a change.
type ExportOptions struct {
	Path    string // of the workspace in the guest; "" is the only one there is
	Ignored bool   // files that are ignored too
}

// NewExport asks a guest what it has changed. Nothing in the guest is.
func NewExport(ctx context.Context, vm VM, how ExportOptions) (*Export, error) {
	held, err := vm.hold(ctx)
	if err != nil {
		return nil, err
	}
	e := &Export{vm: vm, release: held.Release, most: maxInMemory, sparse: map[string]bool{}}
	if err := e.look(ctx, how); err != nil {
		e.Close()
		return nil, e.wrong(err)
	}
	return e, nil
}

// Close ends an export.
func (e *Export) Close() {
	if e.dir != "" {
		_ = os.RemoveAll(e.dir)
	}
	_ = e.release()
}

func (e *Export) look(ctx context.Context, how ExportOptions) error {
	var err error
	if e.slot, e.state, err = e.vm.find(how.Path); err != nil {
		return err
	}
	if !e.state.Whole {
		return banger.Errorf(banger.KindConflict, "%s:%s was never whole: its copy was cut off", e.vm.Name, e.state.Path).
			WithNext("banger vm workspace prepare %s %s", e.vm.Name, quote(e.state.Root))
	}
	if e.Note, err = recoverTree(e.state.Root); err != nil {
		return err
	}
	if err := e.begin(ctx); err != nil {
		return err
	}
	changes, err := e.changes(ctx)
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, f := range e.state.Host {
		known[string(f.Path)] = true
	}
	var fresh []string
	for _, c := range changes {
		name := string(c.Path)
		if err := judge(name); err != nil {
			return err
		}
		kind := c.Mode & unix.S_IFMT
		switch {
		case c.Gone && known[name]:
			e.gone = append(e.gone, name)
		case c.Gone:
		case kind != unix.S_IFREG && kind != unix.S_IFLNK:
			e.LeftOut++
			if known[name] {
				e.gone = append(e.gone, name)
			}
		case known[name]:
			e.changed = append(e.changed, name)
		default:
			fresh = append(fresh, name)
		}
	}
	if !how.Ignored {
		if fresh, err = e.notIgnored(ctx, fresh); err != nil {
			return err
		}
	}
	e.changed = append(e.changed, fresh...)
	slices.Sort(e.changed)
	slices.Sort(e.gone)
	return e.record(ctx)
}

// begin makes the repository in which the guest's changes are compared with the
// base. It goes with the export, and all that the guest has sent.
func (e *Export) begin(ctx context.Context) error {
	base, err := e.slot.own(e.state).run(ctx, "rev-parse", refBase)
	if err != nil {
		return err
	}
	if e.dir, err = e.slot.scratch(); err != nil {
		return err
	}
	dir := filepath.Join(e.dir, "changes.git")
	e.own = inOwn(dir, append(objectDirs(e.state.Common), filepath.Join(e.slot.base(), "objects"))...).packing()
	if _, err := e.own.run(ctx, "init", "--quiet", "--bare", "--template=", "--object-format="+e.state.Format, dir); err != nil {
		return err
	}
	if _, err := e.own.run(ctx, "update-ref", refBase, strings.TrimSpace(base)); err != nil {
		return err
	}
	exclude, err := os.ReadFile(filepath.Join(e.slot.base(), "info/exclude"))
	if err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(dir, "info"), 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "info/exclude"), exclude, 0o600)
}

// changes are what the guest says. A workspace of which nothing is left was not
// emptied by somebody's work: the VM was reset, or the directory removed.
func (e *Export) changes(ctx context.Context) ([]wire.Change, error) {
	given := withoutGit(e.state.Stamps)
	changes, err := e.vm.Guest.Changes(ctx, wire.ChangesRequest{Place: e.state.Place}, given)
	lost := banger.KindOf(err) == banger.KindNotFound
	if err == nil && nothingLeft(changes, given) {
		lost, err = e.withoutRepository(ctx)
	}
	if lost {
		return nil, banger.Errorf(banger.KindNotFound, "%s:%s is gone; a reset takes what is not on the work disk", e.vm.Name, e.state.Path).
			WithNext("banger vm workspace prepare --target %s %s %s", quote(e.state.Path), e.vm.Name, quote(e.state.Root))
	}
	return changes, err
}

// withoutRepository says whether the guest has no .git either.
func (e *Export) withoutRepository(ctx context.Context) (bool, error) {
	if e.state.Common == "" {
		return true, nil
	}
	at := e.state.Place
	at.Path += "/.git"
	stat, err := e.vm.Guest.Stat(ctx, wire.StatFile{Place: at})
	return !stat.Exists, err
}

func withoutGit(stamps []wire.Stamp) []wire.Stamp {
	var out []wire.Stamp
	for _, s := range stamps {
		if _, _, inside := cutDotGit(string(s.Path)); !inside {
			out = append(out, s)
		}
	}
	return out
}

// notIgnored leaves out the files that the rules in the guest's .gitignore files
// and the host's own leave out. git itself judges, in a tree that holds nothing
// but these files.
func (e *Export) notIgnored(ctx context.Context, names []string) ([]string, error) {
	if len(names) == 0 || e.state.Common == "" {
		return names, nil
	}
	rules := filepath.Join(e.dir, "rules")
	if err := os.Mkdir(rules, 0o700); err != nil {
		return nil, err
	}
	if err := e.rules(ctx, rules, names); err != nil {
		return nil, err
	}
	args := []string{"-c", "core.bare=false"}
	if global := globalExcludes(ctx, e.state.Root); global != "" {
		args = append(args, "-c", "core.excludesFile="+global)
	}
	g := e.own.with("GIT_WORK_TREE=" + rules)
	g.args = append(append([]string{"-C", rules}, g.args...), args...)
	out, err := g.feed(ctx, strings.NewReader(strings.Join(names, "\x00")+"\x00"), "check-ignore", "-z", "--stdin", "--no-index")
	if err != nil && exitCode(err) != 1 { // 1: none is
		return nil, err
	}
	ignored := map[string]bool{}
	for name := range strings.SplitSeq(out, "\x00") {
		ignored[name] = true
	}
	return slices.DeleteFunc(names, func(name string) bool { return ignored[name] }), nil
}

// globalExcludes is the user's own list of what is ignored.
func globalExcludes(ctx context.Context, root string) string {
	out, err := inRepository(root).run(ctx, "config", "--path", "--get", "core.excludesFile")
	if err == nil {
		return strings.TrimSpace(out)
	}
	if home, err := os.UserConfigDir(); err == nil {
		return filepath.Join(home, "git/ignore")
	}
	return ""
}

// rules puts the .gitignore files of the workspace into a directory: the host's,
// and over them those that the guest has changed.
func (e *Export) rules(ctx context.Context, dir string, fresh []string) error {
	for _, f := range e.state.Host {
		if path.Base(string(f.Path)) != ".gitignore" || f.Mode == "120000" || slices.Contains(e.gone, string(f.Path)) {
			continue
		}
		content, err := e.own.run(ctx, "cat-file", "blob", f.ID)
		if err != nil {
			return err
		}
		name := filepath.Join(dir, string(f.Path))
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			return err
		}
	}
	var ask []string
	for _, name := range slices.Concat(e.changed, fresh) {
		if path.Base(name) == ".gitignore" {
			ask = append(ask, name)
		}
	}
	return e.pick(ctx, ask, func(name string, hdr *tar.Header, r io.Reader) error {
		if hdr.Typeflag != tar.TypeReg || hdr.Size > 1<<20 {
			return nil
		}
		content, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Join(dir, path.Dir(name)), 0o700); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, name), content, 0o600)
	})
}

// pick reads files of the guest's.
func (e *Export) pick(ctx context.Context, names []string, each func(string, *tar.Header, io.Reader) error) error {
	return e.vm.pick(ctx, e.state.Place, e.slot.dir, names, each)
}

// pick reads files below a place of the guest's. Only what was asked for is passed
// on, as long as there is room for it in a directory of the host's.
func (vm VM) pick(ctx context.Context, at wire.Place, dir string, names []string, each func(string, *tar.Header, io.Reader) error) error {
	if len(names) == 0 {
		return nil
	}
	body, err := vm.Guest.Pick(ctx, at, names)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }()
	asked := map[string]bool{}
	for _, name := range names {
		asked[name] = true
	}
	files := tar.NewReader(&countingReader{body, &counting{progress: vm.Progress}})
	content := room.Reader(files, dir) // of what a sparse file becomes, too
	sparse := int64(0)
	for {
		hdr, err := files.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if !asked[hdr.Name] {
			return banger.Errorf(banger.KindUnavailable, "the guest sends %.200q, which was not asked for", hdr.Name)
		}
		delete(asked, hdr.Name)    // and that once
		if archive.IsSparse(hdr) { // holes cost the guest nothing, and each byte of them is read here
			if err := room.Whole(dir, max(hdr.Size, sparse+hdr.Size)); err != nil { // the sum may overflow
				return err
			}
			sparse += hdr.Size
		}
		if err := each(hdr.Name, hdr, content); err != nil {
			return err
		}
	}
}

type countingReader struct {
	r io.Reader
	c *counting
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.c.told(n)
	return n, err
}

// record makes a commit of what the guest has, over what it was given.
func (e *Export) record(ctx context.Context) error {
	return fastImport(ctx, e.own, func(w *bufio.Writer) error {
		commit(w, refGuest, refBase)
		for _, name := range e.gone {
			fmt.Fprintf(w, "D %s\n", quote(name))
		}
		return e.pick(ctx, e.changed, func(name string, hdr *tar.Header, r io.Reader) error {
			return e.writeEntry(ctx, w, name, hdr, r)
		})
	})
}

func (e *Export) writeEntry(ctx context.Context, w *bufio.Writer, name string, hdr *tar.Header, r io.Reader) error {
	switch hdr.Typeflag {
	case tar.TypeSymlink:
		fmt.Fprintf(w, "M 120000 inline %s\n", quote(name))
		data(w, hdr.Linkname)
		return nil
	case tar.TypeReg:
	default:
		return banger.Errorf(banger.KindUnavailable, "the guest sends %.200q as something that is no file", name)
	}
	mode := modeOf(unix.Stat_t{Mode: unix.S_IFREG | uint32(hdr.Mode&0o777)})
	if archive.IsSparse(hdr) {
		e.sparse[name] = true
		id, err := e.blob(ctx, hdr.Size, r)
		fmt.Fprintf(w, "M %s %s %s\n", mode, id, quote(name))
		return err
	}
	fmt.Fprintf(w, "M %s inline %s\n", mode, quote(name))
	return writeData(w, hdr.Size, r)
}

// blob stores content that is mostly zeros, and gives its name.
func (e *Export) blob(ctx context.Context, size int64, r io.Reader) (string, error) {
	sum := newBlob(e.state.Format, size)
	err := fastImport(ctx, e.own.compressing(), func(w *bufio.Writer) error {
		_, _ = w.WriteString("blob\n")
		return writeData(w, size, io.TeeReader(r, sum))
	})
	return hex.EncodeToString(sum.Sum(nil)), err
}

func writeData(w *bufio.Writer, size int64, r io.Reader) error {
	fmt.Fprintf(w, "data %d\n", size)
	if _, err := io.Copy(struct{ io.Writer }{w}, r); err != nil {
		return err
	}
	_, err := w.WriteString("\n")
	return err
}

// Patch writes the changes as git apply reads them.
func (e *Export) Patch(ctx context.Context, w io.Writer) error {
	if err := e.patchable(ctx); err != nil {
		return e.wrong(err)
	}
	return e.wrong(e.own.pipe(ctx, nil, w, "diff", "--binary", "--full-index", "--find-renames", "--no-ext-diff", "--no-textconv", "--no-color",
		"--src-prefix=a/", "--dst-prefix=b/", refBase, refGuest))
}

// patchable says whether git could make a patch, for which it holds both sides of
// each file in memory. What has only moved is not looked at.
func (e *Export) patchable(ctx context.Context) error {
	entries, err := e.own.diffTree(ctx, refBase, refGuest)
	if err != nil {
		return err
	}
	before, after := map[string]string{}, map[string]string{}
	for _, d := range entries {
		before[d.before], after[d.id] = d.path, d.path
	}
	seen := map[string]string{}
	for id, name := range before {
		if after[id] == "" {
			seen[id] = name
		}
	}
	for id, name := range after {
		if before[id] == "" {
			seen[id] = name
		}
	}
	large, err := e.tooLarge(ctx, seen)
	if err != nil || len(large) == 0 {
		return err
	}
	return banger.Errorf(banger.KindUnavailable, "%s: more than the %s that a file may have in a patch", few(large), banger.Bytes(e.most)).
		WithNext("banger vm workspace export --apply %s, or --tar", e.vm.Name)
}

// maxInMemory is the size of a file up to which git may hold it in memory, several
// times over.
const maxInMemory = 256 << 20

// tooLarge are the paths, given by names of objects, whose content is larger than that.
func (e *Export) tooLarge(ctx context.Context, paths map[string]string) ([]string, error) {
	ids := sortedKeys(paths)
	sizes, err := e.own.ofObjects(ctx, ids, "%(objectsize)")
	var names []string
	for n, size := range sizes {
		if bytes, err := strconv.ParseInt(size, 10, 64); err == nil && bytes > e.most {
			names = append(names, paths[ids[n]])
		}
	}
	slices.Sort(names)
	return names, err
}

// File is one file that differs.
type File struct {
	Status string `json:"status"` // A new, D gone, M other, T of another type
	Path   string `json:"path"`
}

// Files are those that differ.
func (e *Export) Files(ctx context.Context) ([]File, error) {
	entries, err := e.own.diffTree(ctx, refBase, refGuest)
	files := []File{}
	for _, d := range entries {
		files = append(files, File{d.status, d.path})
	}
	return files, e.wrong(err)
}

// Tar writes the files that are new or other as the guest has them.
func (e *Export) Tar(ctx context.Context, w io.Writer) error { return e.wrong(e.tar(ctx, w)) }

func (e *Export) tar(ctx context.Context, w io.Writer) error {
	entries, err := e.own.diffTree(ctx, refBase, refGuest)
	if err != nil {
		return err
	}
	dir, err := archive.OpenDir(e.dir)
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	p := archive.NewPacker(w)
	p.Root = os.Getuid()
	for n, d := range entries {
		if d.status == "D" {
			continue
		}
		if err := e.stage(ctx, e.dir, n, d); err != nil {
			return err
		}
		if err := p.AddOne(dir, name("new", n), d.path); err != nil {
			return err
		}
		if err := os.Remove(filepath.Join(e.dir, name("new", n))); err != nil {
			return err
		}
	}
	return p.Close()
}

// difference is a line of diff-tree.
type difference struct{ mode, before, id, status, path string }

func (g git) diffTree(ctx context.Context, from, to string) ([]difference, error) {
	out, err := g.run(ctx, "diff-tree", "-r", "-z", "--raw", "--no-renames", from, to)
	if err != nil {
		return nil, err
	}
	var all []difference
	words := strings.Split(out, "\x00")
	for n := 0; n+1 < len(words); n += 2 {
		f := strings.Fields(words[n]) // :mode mode id id status
		if len(f) != 5 {
			return nil, fmt.Errorf("git diff-tree says %.100q", words[n])
		}
		all = append(all, difference{mode: f[1], before: f[2], id: f[3], status: f[4], path: words[n+1]})
	}
	return all, nil
}

// wrong is err for the person who wants the changes.
func (e *Export) wrong(err error) error {
	var ours *banger.Error
	if err == nil || errors.As(err, &ours) || errors.Is(err, context.Canceled) || errors.Is(err, unix.EPIPE) {
		return err
	}
	return banger.Errorf(banger.KindUnavailable, "%s:%s: %w", e.vm.Name, e.state.Path, err)
}
