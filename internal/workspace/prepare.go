package workspace

import (
	"archive/tar"
	"context"
	"crypto/sha1" //nolint:gosec // git's names of objects, not a seal
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"banger.dev/banger"
	"banger.dev/banger/internal/agent/archive"
	"banger.dev/banger/internal/agent/wire"
)

// Prepared is a workspace that is in a guest.
type Prepared struct {
	Path    string `json:"path"` // in the guest
	Dir     string `json:"dir"`  // in the guest, what of it was asked for
	Files   int    `json:"files"`
	Sent    int    `json:"sent"` // of these, with this call
	Removed int    `json:"removed"`
	Head    string `json:"head"`
	Branch  string `json:"branch"`
	Note    string `json:"note,omitempty"`
}

// Prepare copies the directory name into a guest: all of it the first time, what
// has changed later.
func Prepare(ctx context.Context, vm VM, name string, how Options) (Prepared, error) {
	src, err := inspect(ctx, name)
	if err != nil {
		return Prepared{}, err
	}
	place, stat, err := vm.place(ctx, src, how)
	if err != nil {
		return Prepared{}, err
	}
	held, err := vm.hold(ctx)
	if err != nil {
		return Prepared{}, err
	}
	defer held.Release()
	at := string(stat.Path)
	i := &importing{vm: vm, how: how, slot: vm.slot(at), place: place, path: at, room: stat.Room}
	if i.how.scratch, err = i.slot.scratch(); err != nil {
		return Prepared{}, banger.Errorf(banger.KindInternal, "%w", err)
	}
	defer func() { _ = os.RemoveAll(i.how.scratch) }()
	if i.src = src; how.From != "" {
		if i.src, err = src.at(ctx, how.From, i.how.scratch); err != nil {
			return Prepared{}, unusable(name, err)
		}
	}
	p, err := i.run(ctx)
	if err != nil {
		return Prepared{}, i.wrong(err)
	}
	return p, nil
}

// place is where a workspace goes, and what is there.
func (vm VM) place(ctx context.Context, src source, how Options) (wire.Place, wire.FileStat, error) {
	target := how.Target
	if target == "" {
		target = filepath.Base(src.root)
	}
	if target == "/" || target == "." {
		return wire.Place{}, wire.FileStat{}, banger.Errorf(banger.KindInvalid, "%s has no name that its copy could have: say where it goes", src.root).
			WithNext("banger vm workspace prepare --target /root/work %s %s", vm.Name, quote(src.root))
	}
	place := wire.Place{Path: wire.Text(target), Own: true}
	stat, err := vm.Guest.Stat(ctx, wire.StatFile{Place: place})
	if err == nil && stat.Exists && stat.Kind != wire.KindDir {
		err = banger.Errorf(banger.KindConflict, "%s:%s is there already, and is no directory", vm.Name, stat.Path)
	}
	return place, stat, err
}

// importing is one copy into a guest.
type importing struct {
	vm    VM
	src   source
	how   Options
	slot  slot
	place wire.Place
	path  string
	room  *wire.Room // of the guest's file system, nil if it does not say

	before  state
	listed  listing
	gits    []dotGit        // of listed.repos
	had     map[string]bool // files that the guest has of the copy before
	midway  map[string]bool // files of a copy that was cut off
	kept    []wire.Text     // repositories in which the guest has made commits
	known   map[string]hostFile
	changed map[string]bool // files that are sent
	notes   []string        // what the user should know
	lfs     int             // files sent that are pointers of git LFS
}

func (i *importing) run(ctx context.Context) (Prepared, error) {
	note, err := recoverTree(i.src.root)
	if err != nil {
		return Prepared{}, err
	}
	if note != "" {
		i.notes = append(i.notes, note)
	}
	if i.listed, err = list(ctx, i.src, ways{exclude: i.how.Exclude, include: i.how.Include}); err != nil {
		return Prepared{}, err
	}
	for _, r := range i.listed.repos {
		how := i.how
		if r.at != "." {
			how.Branch = ""
		}
		d, err := newDotGit(ctx, r.source, how)
		if err != nil {
			return Prepared{}, err
		}
		i.gits = append(i.gits, d)
	}
	if i.before, err = i.slot.load(); err != nil && !errors.Is(err, os.ErrNotExist) {
		i.before = state{}
	}
	found, err := i.meet(ctx)
	if err != nil {
		return Prepared{}, err
	}
	gone, err := i.compare(ctx, found)
	if err != nil {
		return Prepared{}, err
	}
	if err := i.fits(gone); err != nil {
		return Prepared{}, err
	}
	st := i.before
	st.Whole = false
	for name := range i.changed {
		st.Sending = append(st.Sending, wire.Text(name))
	}
	for _, name := range gone {
		st.Sending = append(st.Sending, wire.Text(name))
	}
	st.Kept = i.kept
	if st.Root == "" {
		st.Root = i.src.root
	}
	if err := i.slot.save(st); err != nil {
		return Prepared{}, err
	}
	if err := i.vm.Guest.Seal(ctx, wire.SealRequest{Place: i.place, Off: true}); err != nil && banger.KindOf(err) != banger.KindNotFound {
		return Prepared{}, err
	}
	if len(gone) > 0 {
		if err := i.vm.Guest.Remove(ctx, i.place, gone); err != nil {
			return Prepared{}, err
		}
	}
	return i.copy(ctx, gone)
}

// meet looks at what is in the guest's directory already. A copy of the same
// source is built upon, should something be left of it. Whatever else is there
// is in nobody's way only if the user says so.
func (i *importing) meet(ctx context.Context) ([]wire.Change, error) {
	found, err := i.vm.Guest.Changes(ctx, wire.ChangesRequest{Place: i.place, Git: true}, i.before.Stamps)
	if banger.KindOf(err) == banger.KindNotFound || err == nil && nothingLeft(found, i.before.Stamps) {
		i.before = state{}
	}
	if banger.KindOf(err) == banger.KindNotFound {
		return nil, nil
	}
	found = slices.DeleteFunc(found, func(c wire.Change) bool { return i.before.Root == "" && c.Gone })
	switch {
	case err != nil:
		return nil, err
	case i.before.Root == i.src.root:
		return found, nil
	case i.before.Root != "" && !i.how.Force:
		return nil, banger.Errorf(banger.KindConflict, "%s:%s is a copy of %s", i.vm.Name, i.path, i.before.Root).
			WithNext("banger vm workspace prepare --target %s %s %s, or --force, which replaces it", quote(i.path+"-2"), i.vm.Name, quote(i.src.root))
	case i.before.Root == "" && len(found) > 0 && !i.how.Force:
		return nil, banger.Errorf(banger.KindConflict, "%s:%s is no copy of banger's, and not empty", i.vm.Name, i.path).
			WithNext("banger vm workspace prepare --target %s %s %s, or --force, which copies over it", quote(i.path+"-2"), i.vm.Name, quote(i.src.root))
	case i.before.Root == "":
		// What is there counts as known, and so as no change of the guest's.
		for _, c := range found {
			i.before.Stamps = append(i.before.Stamps, c.Stamp)
		}
	}
	return found, nil
}

// nothingLeft says whether a guest has lost all that it was given.
func nothingLeft(found []wire.Change, given []wire.Stamp) bool {
	gone := 0
	for _, c := range found {
		if c.Gone {
			gone++
		}
	}
	return gone > 0 && gone >= len(given)
}

// compare finds out what is to be sent, and gives what is to be removed. Of a
// copy that was cut off, the files that were on their way count as unknown.
func (i *importing) compare(ctx context.Context, found []wire.Change) (gone []string, err error) {
	i.known, i.changed, i.midway = map[string]hostFile{}, map[string]bool{}, map[string]bool{}
	if i.before.Root == i.src.root {
		for _, name := range i.before.Sending {
			i.midway[string(name)] = true
		}
		for _, f := range i.before.Host {
			if !i.midway[string(f.Path)] {
				i.known[string(f.Path)] = f
			}
		}
	}
	present := map[string]bool{}
	for _, name := range i.listed.files {
		present[name] = true
		if st, err := lstat(filepath.Join(i.src.tree, name)); err == nil && stamp(st) != i.known[name].Stamp {
			i.changed[name] = true
		}
	}
	if i.before.Root != "" && i.before.Root != i.src.root {
		return i.replaced(found), nil
	}
	for name := range i.known {
		if !present[name] {
			gone = append(gone, name)
		}
	}
	for name := range i.midway {
		if !present[name] {
			gone = append(gone, name)
		}
	}
	slices.Sort(gone)
	return gone, i.reconcile(ctx, found, gone)
}

// replaced are all files of a copy of something else.
func (i *importing) replaced(found []wire.Change) []string {
	all := map[string]string{}
	for _, s := range i.before.Stamps {
		all[string(s.Path)] = ""
	}
	for _, c := range found {
		all[string(c.Path)] = ""
	}
	i.before.Whole = false
	return sortedKeys(all)
}

// reconcile looks at what the guest has changed since the last time. A file that
// both sides have changed is not overwritten, unless that is wanted; one that
// has gone there is sent again.
func (i *importing) reconcile(ctx context.Context, found []wire.Change, gone []string) error {
	var both []wire.Change
	kept := map[string]bool{}
	for _, at := range i.before.Kept {
		kept[string(at)] = true
	}
	for _, c := range found {
		name := string(c.Path)
		_, known := i.known[name]
		at, inside, isGit := cutDotGit(name)
		switch {
		case isGit:
			if i.before.Whole && (inside == "HEAD" || inside == "packed-refs" || strings.HasPrefix(inside, "refs/")) {
				kept[at] = true
			}
		case i.midway[name]:
		case i.changed[name] && i.onlyTouched(name):
			delete(i.changed, name)
		case c.Gone && slices.Contains(gone, name):
		case i.changed[name] || slices.Contains(gone, name):
			both = append(both, c)
		case known && c.Gone && i.how.Force:
			i.changed[name] = true
		}
	}
	if i.how.Force {
		return nil
	}
	differ, err := i.differing(ctx, both)
	if err != nil {
		return err
	}
	if len(differ) > 0 {
		return banger.Errorf(banger.KindConflict, "%s was changed here and in %s since it was prepared", few(differ), i.vm.Name).
			WithNext("banger vm workspace export --apply %s, or prepare --force", i.vm.Name)
	}
	i.keep(kept)
	return nil
}

// differing are those of the files that both sides have changed which are not the
// same on both: what was exported and applied is no conflict.
func (i *importing) differing(ctx context.Context, both []wire.Change) ([]string, error) {
	differ, ask := map[string]string{}, map[string]wire.Stamp{}
	for _, c := range both {
		name := string(c.Path)
		differ[name] = name
		if i.changed[name] && !c.Gone {
			ask[name] = c.Stamp
		}
	}
	err := i.vm.pick(ctx, i.place, i.slot.dir, slices.Sorted(maps.Keys(ask)), func(name string, hdr *tar.Header, r io.Reader) error {
		theirs, err := fileOf(i.src.format, hdr, r)
		if err != nil {
			return err
		}
		ours, err := i.fileOf(name)
		if err != nil || ours.Mode != theirs.Mode || ours.ID != theirs.ID {
			return err
		}
		delete(differ, name)
		delete(i.changed, name)
		i.known[name] = ours
		i.before.Stamps = append(i.before.Stamps, ask[name])
		return nil
	})
	return sortedKeys(differ), err
}

// fileOf is a file in a tar as git names it; its mode is "" if git holds no such.
func fileOf(format string, hdr *tar.Header, r io.Reader) (hostFile, error) {
	f := hostFile{Path: wire.Text(hdr.Name)}
	switch hdr.Typeflag {
	case tar.TypeSymlink:
		f.Mode, f.ID = "120000", linkID(format, hdr.Linkname)
		return f, nil
	case tar.TypeReg:
		f.Mode = modeOf(unix.Stat_t{Mode: unix.S_IFREG | uint32(hdr.Mode&0o777)})
	}
	sum := newBlob(format, hdr.Size)
	_, err := io.Copy(sum, r)
	f.ID = hex.EncodeToString(sum.Sum(nil))
	return f, err
}

// fileOf is a file of the host's.
func (i *importing) fileOf(name string) (hostFile, error) {
	f := hostFile{Path: wire.Text(name)}
	st, err := lstat(filepath.Join(i.src.tree, name))
	if err != nil {
		return f, err
	}
	if f.Mode, f.Stamp = modeOf(st), stamp(st); f.Mode != "120000" {
		return f, i.hash(&f)
	}
	target, err := os.Readlink(filepath.Join(i.src.tree, name))
	f.ID = linkID(i.src.format, target)
	return f, err
}

func linkID(format, target string) string {
	sum := newBlob(format, int64(len(target)))
	_, _ = io.WriteString(sum, target)
	return hex.EncodeToString(sum.Sum(nil))
}

// onlyTouched says whether a file of the host's has a new stamp, as after another
// branch was checked out for a while, and the same content.
func (i *importing) onlyTouched(name string) bool {
	known := i.known[name]
	now, err := i.fileOf(name)
	return err == nil && now.Mode == known.Mode && now.ID == known.ID
}

// keep leaves the branches and the index of repositories as the guest has them.
func (i *importing) keep(repos map[string]bool) {
	for n, r := range i.listed.repos {
		if !repos[r.at] {
			continue
		}
		i.kept = append(i.kept, wire.Text(r.at))
		for _, name := range []string{"HEAD", "packed-refs"} {
			delete(i.gits[n].made, name)
		}
		delete(i.gits[n].copied, "index")
	}
	if len(i.kept) > 0 {
		i.notes = append(i.notes, "commits made in "+i.vm.Name+" are kept: its branches and index stay as they are")
	}
}

// cutDotGit splits the path of a file in a repository's .git: where the repository
// is, "." for the outermost, and the file's path below its .git.
func cutDotGit(name string) (at, inside string, found bool) {
	at, inside, found = strings.Cut("/"+name, "/.git/")
	if at = strings.TrimPrefix(at, "/"); at == "" {
		at = "."
	}
	return at, inside, found
}

// few names some of many.
func few(names []string) string {
	const some = 5
	quoted := make([]string, 0, some)
	for _, name := range names[:min(some, len(names))] {
		quoted = append(quoted, quote(name))
	}
	text := strings.Join(quoted, ", ")
	if more := len(names) - some; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// copy sends what has changed and writes down what the guest has then.
func (i *importing) copy(ctx context.Context, gone []string) (Prepared, error) {
	var sent []hostFile
	wanted := wire.WriteFiles{Place: i.place, Make: true, Stamps: true}
	_, stamps, err := i.vm.Guest.WriteStamped(ctx, wanted, func(w io.Writer) (err error) {
		sent, err = i.pack(ctx, w)
		return err
	})
	if err != nil {
		return Prepared{}, err
	}
	for _, name := range gone {
		delete(i.known, name)
	}
	for _, f := range sent {
		i.known[string(f.Path)] = f
	}
	st := state{
		Place: i.place, Path: i.path, Root: i.src.root, Common: i.src.commonDir, Head: i.src.head, Format: i.src.format,
		ReadOnly: i.how.ReadOnly, Whole: true, Stamps: merged(i.before.Stamps, stamps, gone),
	}
	for _, r := range i.listed.repos {
		st.Repos = append(st.Repos, repository{At: r.at, Root: r.root, Common: r.commonDir, Head: r.head, Format: r.format})
	}
	for _, name := range i.listed.files {
		if f, ok := i.known[name]; ok {
			st.Host = append(st.Host, f)
		}
	}
	if err := i.base(ctx, st); err != nil {
		return Prepared{}, err
	}
	if i.lfs > 0 {
		i.notes = append(i.notes, fmt.Sprintf("files that are only pointers of git LFS: %d (git lfs pull, and prepare again)", i.lfs))
	}
	if i.how.ReadOnly {
		if err := i.vm.Guest.Seal(ctx, wire.SealRequest{Place: i.place}); err != nil {
			return Prepared{}, err
		}
	}
	p := Prepared{
		Path: i.path, Dir: path.Join(i.path, filepath.ToSlash(i.src.sub)), Files: len(st.Host), Sent: len(sent), Removed: len(gone),
		Head: i.src.head, Branch: strings.TrimPrefix(i.src.branch, "refs/heads/"), Note: strings.Join(i.notes, "; "),
	}
	if i.how.Branch != "" {
		p.Branch = i.how.Branch
	}
	return p, i.slot.save(st)
}

func merged(before, now []wire.Stamp, gone []string) []wire.Stamp {
	all := map[wire.Text]wire.Stamp{}
	for _, s := range before {
		all[s.Path] = s
	}
	for _, name := range gone {
		delete(all, wire.Text(name))
	}
	for _, s := range now {
		all[s.Path] = s
	}
	out := make([]wire.Stamp, 0, len(all))
	for _, s := range all {
		out = append(out, s)
	}
	return out
}

// pack writes the tar of what is sent: the repositories' own files, and then the
// working tree's.
func (i *importing) pack(ctx context.Context, w io.Writer) ([]hostFile, error) {
	root, err := archive.OpenDir(i.src.tree)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	c := &counting{w: w, progress: i.vm.Progress}
	p := archive.NewPacker(c)
	for n, d := range i.gits {
		if err := i.packGit(p, path.Join(i.listed.repos[n].at, ".git"), d); err != nil {
			return nil, err
		}
	}
	for _, name := range i.listed.dirs {
		if err := p.Content(&tar.Header{Name: name + "/", Typeflag: tar.TypeDir, Mode: 0o755, ModTime: time.Now()}, nil); err != nil {
			return nil, err
		}
	}
	tree := archive.NewTree(root)
	defer tree.Close()
	var files []hostFile
	for _, name := range i.listed.files {
		if !i.changed[name] {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		f, err := i.packFile(p, tree, name)
		if archive.IsAbsent(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return files, p.Close()
}

func (i *importing) packGit(p *archive.Packer, at string, d dotGit) error {
	for _, name := range sortedKeys(d.made) {
		hdr := &tar.Header{Name: at + "/" + name, Typeflag: tar.TypeReg, Mode: 0o644, ModTime: time.Now()}
		if strings.HasSuffix(name, "/") {
			hdr.Typeflag, hdr.Mode = tar.TypeDir, 0o755
		}
		if err := p.Content(hdr, []byte(d.made[name])); err != nil {
			return err
		}
	}
	for _, name := range sortedKeys(d.copied) {
		as := at + "/" + name
		if i.hasObject(name, as) {
			continue
		}
		err := packHostFile(p, d.copied[name], as)
		if archive.IsAbsent(err) {
			return banger.Errorf(banger.KindConflict, "%s was rewritten while it was copied; copy it again once it is at rest", i.src.root)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// hasObject says whether the guest has a file of an object store from before: it
// never changes.
func (i *importing) hasObject(name, as string) bool {
	if i.had == nil {
		i.had = map[string]bool{}
		for _, s := range i.before.Stamps {
			i.had[string(s.Path)] = i.before.Whole
		}
	}
	return strings.HasPrefix(name, "objects/") && i.had[as]
}

func packHostFile(p *archive.Packer, from, as string) error {
	dir, err := archive.OpenDir(filepath.Dir(from))
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	return p.AddOne(dir, filepath.Base(from), as)
}

// packFile packs a file of the working tree and names its content as git does.
func (i *importing) packFile(p *archive.Packer, tree archive.Tree, name string) (hostFile, error) {
	f := hostFile{Path: wire.Text(name)}
	st, err := tree.Lstat(name)
	if err != nil {
		return f, err
	}
	f.Stamp = stamp(st)
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		if f, err = i.fileOf(name); err != nil {
			return f, err
		}
		return f, p.AddPath(tree, name, name)
	}
	f.Mode = modeOf(st)
	var sum hash.Hash
	var pointer lfsPointer
	p.Tee = func(_ string, size int64) io.Writer {
		sum = newBlob(i.src.format, size)
		if size > maxPointer {
			return sum
		}
		return io.MultiWriter(sum, &pointer)
	}
	defer func() { p.Tee = nil }()
	if err := p.AddPath(tree, name, name); err != nil {
		return f, err
	}
	if sum == nil {
		// A further name of a file that is in the archive already.
		return f, i.hash(&f)
	}
	f.ID = hex.EncodeToString(sum.Sum(nil))
	if pointer.is() {
		i.lfs++
	}
	return f, nil
}

func (i *importing) hash(f *hostFile) error {
	file, err := os.Open(filepath.Join(i.src.tree, string(f.Path)))
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	sum := newBlob(i.src.format, info.Size())
	if _, err := io.Copy(sum, file); err != nil {
		return err
	}
	f.ID = hex.EncodeToString(sum.Sum(nil))
	return nil
}

// newBlob begins the name of an object of git's.
func newBlob(format string, size int64) hash.Hash {
	sum := sha1.New() //nolint:gosec // see above
	if format == "sha256" {
		sum = sha256.New()
	}
	_, _ = io.WriteString(sum, "blob "+strconv.FormatInt(size, 10)+"\x00")
	return sum
}

func lstat(name string) (unix.Stat_t, error) {
	var st unix.Stat_t
	err := unix.Lstat(name, &st)
	return st, err
}

// stamp changes when a file of the host's does.
func stamp(st unix.Stat_t) string {
	return fmt.Sprintf("%o %d %d %d %d", st.Mode, st.Size, st.Mtim.Nano(), st.Ctim.Nano(), st.Ino)
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// counting tells how much has been sent.
type counting struct {
	w        io.Writer
	progress banger.ProgressFunc
	done     int64
	last     time.Time
}

func (c *counting) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.told(n)
	return n, err
}

func (c *counting) told(n int) {
	c.done += int64(n)
	if now := time.Now(); now.Sub(c.last) > 100*time.Millisecond {
		c.last = now
		c.progress.Report(banger.Progress{Stage: "copy the workspace", Message: banger.Bytes(c.done).String(), Done: c.done, Bytes: true})
	}
}

// wrong is err for the person whose workspace it is.
func (i *importing) wrong(err error) error {
	var ours *banger.Error
	if errors.As(err, &ours) || errors.Is(err, context.Canceled) {
		return err
	}
	return banger.Errorf(banger.KindUnavailable, "%s is not copied to %s: %w", i.src.root, i.vm.Name, err)
}
