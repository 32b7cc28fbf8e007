package workspace

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"banger.dev/banger"
	"banger.dev/banger/internal/room"
)

// The references of a base repository.
const (
	refBase  = "refs/banger/base"  // what was copied
	refGuest = "refs/banger/guest" // what the guest has made of it
	refHost  = "refs/banger/host"  // what the host has of these files now
)

// own is the base repository of a workspace, with the objects of the host's.
func (s slot) own(st state) git {
	var objects []string
	if st.Common != "" {
		objects = objectDirs(st.Common)
	}
	return inOwn(s.base(), objects...)
}

// base records what was copied as a commit, by which changes are told later.
// Content that the host's repository has is not stored again.
func (i *importing) base(ctx context.Context, st state) error {
	g := i.slot.own(st)
	if _, err := os.Stat(i.slot.base()); err != nil || i.before.Format != st.Format {
		if err := os.RemoveAll(i.slot.base()); err != nil {
			return err
		}
		if _, err := g.run(ctx, "init", "--quiet", "--bare", "--template=", "--object-format="+st.Format, i.slot.base()); err != nil {
			return err
		}
	}
	if err := i.excludes(); err != nil {
		return err
	}
	missing, err := absent(ctx, g, st.Host)
	if err != nil {
		return err
	}
	if err := i.store(ctx, g, st, missing); err != nil {
		return err
	}
	if err := verify(ctx, g, st.Host); err != nil {
		return err
	}
	return i.slot.tidy(ctx, st)
}

// store makes the commit, and the objects that no repository has yet.
func (i *importing) store(ctx context.Context, g git, st state, missing map[string]bool) error {
	var total int64
	large := map[string]unix.Stat_t{}
	for _, f := range st.Host {
		stat, err := lstat(filepath.Join(i.src.tree, string(f.Path)))
		if err != nil || !missing[f.ID] {
			continue
		}
		total += onDisk(stat)
		if stat.Size >= largeFile && stat.Mode&unix.S_IFMT == unix.S_IFREG {
			large[string(f.Path)] = stat
		}
	}
	if err := room.At(i.slot.dir, total); err != nil {
		return err
	}
	for _, f := range st.Host {
		if stat, is := large[string(f.Path)]; is && missing[f.ID] {
			if err := i.storeLarge(ctx, g, f, stat); err != nil {
				return err
			}
			delete(missing, f.ID)
		}
	}
	return fastImport(ctx, g, func(w *bufio.Writer) error { return i.writeBase(w, st, missing) })
}

// storeLarge stores a file's content in a pack of its own: fast-import would read
// it twice, and write it twice. One with holes is worth compressing.
func (i *importing) storeLarge(ctx context.Context, g git, f hostFile, stat unix.Stat_t) error {
	if isSparse(stat) {
		g = g.compressing()
	}
	id, err := g.large().run(ctx, "hash-object", "-w", "--no-filters", "--", filepath.Join(i.src.tree, string(f.Path)))
	if err == nil && strings.TrimSpace(id) != f.ID {
		return changedMeanwhile(f)
	}
	return err
}

// excludes keeps what the host's repository ignores by itself.
func (i *importing) excludes() error {
	content, err := os.ReadFile(filepath.Join(i.src.commonDir, "info/exclude"))
	if err != nil || !i.src.repo {
		content = nil
	}
	if err := os.MkdirAll(filepath.Join(i.slot.base(), "info"), 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(i.slot.base(), "info/exclude"), content, 0o600)
}

// absent are the objects that no repository has yet.
func absent(ctx context.Context, g git, files []hostFile) (map[string]bool, error) {
	missing := map[string]bool{}
	kinds, err := g.about(ctx, files, "%(objecttype)")
	for n, kind := range kinds {
		if kind != "blob" {
			missing[files[n].ID] = true
		}
	}
	return missing, err
}

// about asks something of the content of each file.
func (g git) about(ctx context.Context, files []hostFile, what string) ([]string, error) {
	ids := make([]string, len(files))
	for n, f := range files {
		ids[n] = f.ID
	}
	return g.ofObjects(ctx, ids, what)
}

// ofObjects asks something of each object. Of one that is not there the answer is
// more than one word.
func (g git) ofObjects(ctx context.Context, ids []string, what string) ([]string, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	out, err := g.feed(ctx, strings.NewReader(strings.Join(ids, "\n")+"\n"), "cat-file", "--batch-check="+what)
	if err != nil {
		return nil, err
	}
	answers := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	if len(answers) != len(ids) {
		return nil, fmt.Errorf("git cat-file answers %d times, and was asked %d times", len(answers), len(ids))
	}
	return answers, nil
}

func (i *importing) writeBase(w *bufio.Writer, st state, missing map[string]bool) error {
	commit(w, refBase, "")
	for _, f := range st.Host {
		if !missing[f.ID] {
			fmt.Fprintf(w, "M %s %s %s\n", f.Mode, f.ID, quote(string(f.Path)))
			continue
		}
		fmt.Fprintf(w, "M %s inline %s\n", f.Mode, quote(string(f.Path)))
		if err := i.content(w, f); err != nil {
			return err
		}
	}
	return nil
}

// content writes a file's content as fast-import reads it.
func (i *importing) content(w *bufio.Writer, f hostFile) error {
	name := filepath.Join(i.src.tree, string(f.Path))
	if f.Mode == "120000" {
		target, err := os.Readlink(name)
		if err != nil {
			return changedMeanwhile(f)
		}
		data(w, target)
		return nil
	}
	file, err := os.Open(name)
	if err != nil {
		return changedMeanwhile(f)
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "data %d\n", info.Size())
	if n, err := io.Copy(w, io.LimitReader(file, info.Size())); err != nil || n < info.Size() {
		return changedMeanwhile(f)
	}
	_, err = w.WriteString("\n")
	return err
}

// isSparse says whether a file has holes worth keeping.
func isSparse(st unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFREG && st.Blocks*512 < st.Size
}

func changedMeanwhile(f hostFile) error {
	return banger.Errorf(banger.KindConflict, "%s changed while it was copied; copy it again once it is at rest", quote(string(f.Path)))
}

// verify says whether the base is what was sent.
func verify(ctx context.Context, g git, files []hostFile) error {
	out, err := g.run(ctx, "ls-tree", "-r", "-z", refBase)
	if err != nil {
		return err
	}
	have := map[string]string{}
	for entry := range strings.SplitSeq(strings.TrimSuffix(out, "\x00"), "\x00") {
		about, name, _ := strings.Cut(entry, "\t")
		if f := strings.Fields(about); len(f) == 3 { // mode, type, id
			have[name] = f[0] + " " + f[2]
		}
	}
	for _, f := range files {
		if have[string(f.Path)] != f.Mode+" "+f.ID {
			return changedMeanwhile(f)
		}
	}
	return nil
}

// fastImport feeds git fast-import, which makes trees and objects of a stream
// without looking at files, attributes or settings.
func fastImport(ctx context.Context, g git, write func(*bufio.Writer) error) error {
	g = g.large()
	r, w := io.Pipe()
	wrote := make(chan error, 1)
	go func() {
		out := bufio.NewWriterSize(w, 1<<20)
		err := write(out)
		if err == nil {
			_, err = out.WriteString("done\n")
		}
		if err == nil {
			err = out.Flush()
		}
		_ = w.CloseWithError(err)
		wrote <- err
	}()
	_, err := g.feed(ctx, r, "fast-import", "--quiet", "--done", "--force", "--date-format=raw")
	_ = r.CloseWithError(io.ErrClosedPipe)
	if werr := <-wrote; werr != nil && (err == nil || banger.KindOf(werr) != banger.KindInternal) {
		return werr
	}
	return err
}

// commit begins a commit that holds nothing, or what from holds.
func commit(w *bufio.Writer, ref, from string) {
	fmt.Fprintf(w, "commit %s\ncommitter banger <> 0 +0000\ndata 0\n", ref)
	if from != "" {
		fmt.Fprintf(w, "from %s^0\n", from)
		return
	}
	_, _ = w.WriteString("deleteall\n")
}

func data(w *bufio.Writer, content string) {
	fmt.Fprintf(w, "data %d\n%s\n", len(content), content)
}
