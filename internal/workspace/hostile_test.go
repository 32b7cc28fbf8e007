package workspace

import (
	"archive/tar"
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"banger.dev/banger"
	"banger.dev/banger/internal/agent/archive"
	"banger.dev/banger/internal/agent/control"
	"banger.dev/banger/internal/agent/files"
	"banger.dev/banger/internal/agent/users"
	"banger.dev/banger/internal/agent/wire"
)

// lying is a world whose guest, once it was prepared, says these changes and
// sends this tar for whatever is picked.
type lying struct {
	*world
	changes string
	tar     []byte
	lies    bool
}

func newLying(t *testing.T) *lying {
	t.Helper()
	l := &lying{}
	disk := &files.Server{Users: &users.DB{}}
	all := disk.All()
	all[wire.PathChanges] = func(in io.Reader, out io.Writer) error {
		if !l.lies {
			return disk.Changes(in, out)
		}
		_, _ = io.Copy(io.Discard, in)
		_, err := io.WriteString(out, l.changes)
		return err
	}
	all[wire.PathPick] = func(in io.Reader, out io.Writer) error {
		if !l.lies {
			return disk.Pick(in, out)
		}
		_, err := out.Write(l.tar)
		return err
	}
	l.world = worldWith(t, (&control.Server{Streams: all}).Serve)
	l.repository()
	l.prepare(Options{})
	l.lies = true
	return l
}

func (l *lying) says(entries ...tar.Header) {
	l.t.Helper()
	var lines bytes.Buffer
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, hdr := range entries {
		mode := uint32(0o100644)
		if hdr.Typeflag == tar.TypeSymlink {
			mode = 0o120777
		}
		_ = json.NewEncoder(&lines).Encode(wire.Change{Stamp: wire.Stamp{Path: wire.Text(hdr.Name), Mode: mode}})
		hdr.Mode = 0o755
		if hdr.Typeflag == tar.TypeReg {
			hdr.Size = 4
		}
		if err := w.WriteHeader(&hdr); err != nil {
			l.t.Fatal(err)
		}
		if hdr.Typeflag == tar.TypeReg {
			_, _ = io.WriteString(w, "evil")
		}
	}
	_ = w.Close()
	l.changes, l.tar = lines.String(), b.Bytes()
}

// TestAGuestThatNamesWhatItMayNot: nothing is written outside of the working
// tree, nor in .git, by whatever name.
func TestAGuestThatNamesWhatItMayNot(t *testing.T) {
	l := newLying(t)
	const everything = "cd ..; find app ! -path 'app/.git/*' -print0 | sort -z | xargs -0 ls -ld --time-style=+; find app/.git -print | sort; ls"
	before := l.sh(l.host, everything)
	for _, name := range []string{
		"../x", "/etc/x", "a/../../x", ".git/hooks/x", ".git", ".GIT/hooks/x", ".Git/config", "sub/.git/config", "git~1/hooks/x", ".git./x", ".git /x",
		".git\u200c/hooks/x", ".git::$INDEX_ALLOCATION/x", ".git\\hooks\\x", "a//b", "./a", "",
	} {
		l.says(tar.Header{Name: name, Typeflag: tar.TypeReg})
		e, err := NewExport(t.Context(), l.vm, ExportOptions{})
		if err == nil {
			_, err = e.Apply(t.Context())
			e.Close()
		}
		if banger.KindOf(err) != banger.KindUnavailable {
			t.Errorf("%q: %v", name, err)
		}
	}
	if after := l.sh(l.host, everything); after != before {
		t.Errorf("the host has\n%s\nand had\n%s", after, before)
	}
}

func TestAGuestThatSendsWhatItMayNot(t *testing.T) {
	l := newLying(t)
	refused := func(name string, says string) {
		t.Helper()
		e, err := NewExport(t.Context(), l.vm, ExportOptions{})
		if err == nil {
			e.Close()
		}
		if err == nil || !strings.Contains(err.Error(), says) || banger.NextOf(err) == "" && banger.KindOf(err) != banger.KindUnavailable {
			t.Errorf("%s: %v", name, err)
		}
	}
	l.says(tar.Header{Name: "good", Typeflag: tar.TypeReg})
	named := l.changes
	for name, entries := range map[string][]tar.Header{
		"another file":   {{Name: "bad", Typeflag: tar.TypeReg}},
		"a file in .git": {{Name: "good", Typeflag: tar.TypeReg}, {Name: ".git/hooks/x", Typeflag: tar.TypeReg}},
		"one file twice": {{Name: "good", Typeflag: tar.TypeReg}, {Name: "good", Typeflag: tar.TypeReg}},
	} {
		l.says(entries...)
		l.changes = named
		refused(name, "was not asked for")
	}
	l.says(tar.Header{Name: "good", Typeflag: tar.TypeDir})
	l.changes = named
	refused("a directory", "")
	l.tar = []byte(strings.Repeat("no tar", 200))
	refused("garbage for a tar", "")
	l.changes = "{\"p\":"
	refused("garbage for a list", "")

	t.Run("a link and a file through it", func(t *testing.T) {
		l.says(tar.Header{Name: "dir/deep", Typeflag: tar.TypeSymlink, Linkname: "../.."}, tar.Header{Name: "dir/deep/evil", Typeflag: tar.TypeReg})
		e, err := NewExport(t.Context(), l.vm, ExportOptions{})
		if err == nil {
			_, _ = e.Apply(t.Context())
			e.Close()
		}
		if _, err := os.Lstat(filepath.Join(filepath.Dir(l.host), "evil")); err == nil {
			t.Error("it is there")
		}
	})
	t.Run("a link over a directory of the host's", func(t *testing.T) {
		l.sh(l.host, "mkdir -p out; ln -sfn "+t.TempDir()+" out/there")
		l.says(tar.Header{Name: "out/there/evil", Typeflag: tar.TypeReg})
		e, err := NewExport(t.Context(), l.vm, ExportOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		if _, err := e.Apply(t.Context()); err == nil {
			t.Error("written through a link")
		}
		l.sh(l.host, "test -z \"$(ls -A out/there/)\"")
	})
}

// TestCommitsThatFailTheirChecks: an object that git would not make does not
// come into the host's repository.
// A guest that names more than the host's file system could ever hold is refused
// before any of it is read: nobody waits for a hole of exabytes to be summed up.
func TestAGuestThatNamesHolesWithoutEnd(t *testing.T) {
	l := newLying(t)
	var fs unix.Statfs_t
	dir := t.TempDir()
	if err := unix.Statfs(dir, &fs); err != nil {
		t.Fatal(err)
	}
	file := tar.Header{Name: "long", Typeflag: tar.TypeReg}
	l.says(file)
	err := errors.Join(os.WriteFile(dir+"/long", []byte("data"), 0o600), os.Truncate(dir+"/long", int64(fs.Blocks)*fs.Bsize+1<<20))
	if err != nil {
		t.Fatal(err)
	}
	from, err := archive.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = from.Close() }()
	var b bytes.Buffer
	p := archive.NewPacker(&b)
	if err := errors.Join(p.AddOne(from, "long", "long"), p.Close()); err != nil {
		t.Fatal(err)
	}
	l.tar = b.Bytes()
	refusal(t, l.exportError(), banger.KindUnavailable, "are to be written")
}

func TestCommitsThatFailTheirChecks(t *testing.T) {
	w := newWorld(t)
	w.repository()
	w.prepare(Options{})
	before := w.sh(w.host, "git for-each-ref; git count-objects -v")
	for name, script := range map[string]string{
		"a tree with .GIT": `blob=$(echo evil | git hash-object -w --stdin)
			inner=$(printf '100644 blob %s\tx\n' $blob | git mktree)
			tree=$(printf '040000 tree %s\t.GIT\n' $inner | git mktree)
			git update-ref refs/heads/main $(git commit-tree -p HEAD -m evil $tree)`,
		"an object that is not there": `git update-ref refs/heads/main $(git commit -q --allow-empty -m x && git rev-parse HEAD)
			rm -f .git/objects/$(git rev-parse HEAD | cut -c 1-2)/$(git rev-parse HEAD | cut -c 3-)`,
		"a broken object": `git commit -q --allow-empty -m x; id=$(git rev-parse HEAD)
			f=.git/objects/${id:0:2}/${id:2}; chmod +w $f; echo garbage > $f`,
		"a pack with a tree with .GIT": `blob=$(echo evil | git hash-object -w --stdin)
			tree=$(printf '040000 tree %s\t.GIT\n' $(printf '100644 blob %s\tx\n' $blob | git mktree) | git mktree)
			git update-ref refs/heads/main $(git commit-tree -p HEAD -m evil $tree); git repack -a -d -q`,
		"a broken pack": `git commit -q --allow-empty -m x; git repack -a -d -q; f=$(echo .git/objects/pack/*.pack)
			chmod +w $f; printf garbage | dd of=$f bs=1 seek=60 conv=notrunc status=none`,
		"a HEAD that is no branch": `echo 'ref: ../../../../etc/passwd' > .git/HEAD`,
		"a HEAD that is garbage":   `head -c 100 /dev/urandom > .git/HEAD`,
	} {
		w.sh(w.target, "cp -r .git ../saved")
		w.sh(w.target, script)
		e := w.export(ExportOptions{})
		if _, err := e.Branch(t.Context(), "evil"); err == nil {
			t.Errorf("%s: is taken", name)
		}
		e.Close()
		w.sh(w.target, "rm -rf .git; mv ../saved .git")
	}
	if after := w.sh(w.host, "git for-each-ref; git count-objects -v"); after != before {
		t.Errorf("the repository has\n%s\nand had\n%s", after, before)
	}
}

// TestACopyThatIsCutOff is not exported, and is made whole by the next.
func TestACopyThatIsCutOff(t *testing.T) {
	disk := &files.Server{Users: &users.DB{}}
	all := disk.All()
	full := true
	all[wire.PathWrite] = func(in io.Reader, out io.Writer) error {
		if full {
			_, _ = bufio.NewReader(in).ReadString('\n')
			return &wire.FileError{Message: "no space left on device"}
		}
		return disk.Write(in, out)
	}
	w := worldWith(t, (&control.Server{Streams: all}).Serve)
	w.repository()
	if _, err := w.try(Options{}); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("got %v", err)
	}
	if _, err := NewExport(t.Context(), w.vm, ExportOptions{}); err == nil || banger.NextOf(err) == "" {
		t.Errorf("exported, or %v", err)
	}
	full = false
	w.prepare(Options{})
	if got := w.files(); got != "" {
		t.Errorf("changed: %s", got)
	}
}

// TestACopyThatIsCutOffMidway: files that were on their way and have gone here
// since go there too, and what the guest has done to others stays.
func TestACopyThatIsCutOffMidway(t *testing.T) {
	disk := &files.Server{Users: &users.DB{}}
	all := disk.All()
	cut := false
	all[wire.PathWrite] = func(in io.Reader, out io.Writer) error {
		if err := disk.Write(in, out); err != nil || !cut {
			return err
		}
		return &wire.FileError{Message: "no space left on device"}
	}
	w := worldWith(t, (&control.Server{Streams: all}).Serve)
	w.repository()
	w.prepare(Options{})
	w.sh(w.target, "echo guest >> crlf; git commit -q -m guest crlf")
	w.sh(w.host, "echo 1 > arrives; echo 2 > goes; rm untracked; echo more >> binary")
	cut = true
	if _, err := w.try(Options{}); err == nil {
		t.Fatal("it was not cut off")
	}
	cut = false
	refusal(t, w.exportError(), banger.KindConflict, "cut off")
	w.sh(w.host, "rm goes staged; echo host >> crlf")
	if _, err := w.try(Options{}); banger.KindOf(err) != banger.KindConflict || !strings.Contains(err.Error(), "crlf") {
		t.Errorf("what the guest has made is overwritten, or %v", err)
	}
	w.sh(w.host, "git checkout -q crlf")
	if p := w.prepare(Options{}); !strings.Contains(p.Note, "are kept") {
		t.Errorf("said: %q", p.Note)
	}
	w.sh(w.target, "test ! -e goes; test ! -e staged; test ! -e untracked; test -e arrives; git log --oneline | grep -q guest; cmp binary "+w.host+"/binary")
	if got := w.files(); got != "M crlf" {
		t.Errorf("changed: %s", got)
	}
}

func TestBadSources(t *testing.T) {
	w := newWorld(t)
	w.repository()
	top := filepath.Dir(w.host)
	w.sh(top, "git clone -q --bare app bare.git; echo x > file; mkdir empty")
	for name, says := range map[string]string{
		top + "/no": "is not there", top + "/file": "is no directory", top + "/bare.git": "without a working tree", w.host + "/.git": "without a working tree",
	} {
		if _, err := Prepare(t.Context(), w.vm, name, Options{Target: w.target}); err == nil || !strings.Contains(err.Error(), says) || banger.NextOf(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := NewExport(t.Context(), w.vm, ExportOptions{}); banger.KindOf(err) != banger.KindNotFound {
		t.Errorf("nothing was prepared: %v", err)
	}
	if _, err := Prepare(t.Context(), w.vm, top+"/empty", Options{Target: w.target}); err != nil {
		t.Errorf("an empty directory: %v", err)
	}
}

// FuzzJudge: what passes is a name below the tree that no file system takes for
// .git.
func FuzzJudge(f *testing.F) {
	for _, name := range []string{"a/b", "../x", ".GIT/x", "a\x00", ".git\u200c/x", "git~1", ".git. /x"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if judge(name) != nil {
			return
		}
		if !filepath.IsLocal(name) || filepath.Clean(name) != name {
			t.Errorf("%q passes", name)
		}
		for part := range strings.SplitSeq(name, "/") {
			if strings.EqualFold(part, ".git") {
				t.Errorf("%q passes", name)
			}
		}
	})
}
