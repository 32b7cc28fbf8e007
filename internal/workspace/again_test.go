package workspace

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banger.dev/banger"
	"banger.dev/banger/internal/agent/control"
	"banger.dev/banger/internal/agent/files"
	"banger.dev/banger/internal/agent/users"
	"banger.dev/banger/internal/agent/wire"
)

// refusal checks that an error is of a kind, says something, and what to do next.
func refusal(t *testing.T, err error, kind banger.Kind, says string) {
	t.Helper()
	if banger.KindOf(err) != kind || !strings.Contains(err.Error(), says) || banger.NextOf(err) == "" {
		t.Errorf("got %v (%s), next %q", err, banger.KindOf(err), banger.NextOf(err))
	}
}

func (w *world) exportError() error {
	w.t.Helper()
	e, err := NewExport(w.t.Context(), w.vm, ExportOptions{})
	if err == nil {
		e.Close()
	}
	return err
}

// TestACopyThatIsGone: a VM that was reset has lost its workspace, which is no
// work of anybody's. The next prepare brings all of it again.
func TestACopyThatIsGone(t *testing.T) {
	for name, lose := range map[string]string{
		"with its directory": "rm -rf app", "but for its directory": "rm -rf app && mkdir app",
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.repository()
			w.prepare(Options{})
			w.sh(filepath.Dir(w.target), lose)
			refusal(t, w.exportError(), banger.KindNotFound, "is gone")
			if p := w.prepare(Options{}); p.Sent != p.Files {
				t.Errorf("%+v", p)
			}
			w.sh(w.target, "git fsck --strict")
			if got, want := w.sh(w.target, "git status --porcelain -z"), w.sh(w.host, "git status --porcelain -z"); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			if got := w.files(); got != "" {
				t.Errorf("changed: %s", got)
			}
		})
	}
	t.Run("but for its history", func(t *testing.T) {
		w := newWorld(t)
		w.sh(filepath.Dir(w.host), "git init -q -b main app; cd app; echo a > a; git add a; git commit -q -m a")
		w.prepare(Options{})
		w.sh(w.target, "git rm -q a")
		if got := w.files(); got != "D a" {
			t.Errorf("changed: %s", got)
		}
	})
}

// TestADirectoryOfSomethingElse is left alone, unless --force is given. What was
// there before is no change of the guest's.
func TestADirectoryOfSomethingElse(t *testing.T) {
	w := newWorld(t)
	w.repository()
	w.sh(filepath.Dir(w.host), "mkdir -p guest/app; echo image > guest/app/image; echo image > guest/app/plain")
	_, err := w.try(Options{})
	refusal(t, err, banger.KindConflict, "not empty")
	w.sh(w.target, `test "$(ls -A | tr '\n' ' ')" = "image plain "`)
	w.prepare(Options{Force: true})
	if got := w.files(); got != "" {
		t.Errorf("changed: %s", got)
	}
	w.prepare(Options{}) // it is a copy now

	first := w.host
	w.host = filepath.Join(filepath.Dir(first), "second")
	w.sh(filepath.Dir(first), "git init -q -b trunk second; cd second; echo 2 > two; git add two; git commit -q -m two")
	w.sh(w.target, "git branch made-there; echo made-there > made-there")
	_, err = w.try(Options{})
	refusal(t, err, banger.KindConflict, "is a copy of "+first)
	w.sh(w.target, "test -e made-there")
	w.prepare(Options{Force: true})
	if got := w.sh(w.target, "git fsck --strict; git branch --format='%(refname:short)'; git status --porcelain; ls -A | tr '\\n' ' '"); got != "trunk\n.git two " {
		t.Errorf("got %q", got)
	}
	if got := w.files(); got != "" {
		t.Errorf("changed: %s", got)
	}
}

// TestWhatWasAppliedIsNoConflict: after an apply both sides have changed the same.
func TestWhatWasAppliedIsNoConflict(t *testing.T) {
	w := newWorld(t)
	w.repository()
	w.prepare(Options{})
	w.sh(w.target, guestWork)
	e := w.export(ExportOptions{})
	if _, err := e.Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.Close()
	if p := w.prepare(Options{}); p.Sent != 0 {
		t.Errorf("%+v", p)
	}
	w.same()
	if got := w.files(); got != "" {
		t.Errorf("changed: %s", got)
	}
	w.sh(w.target, "echo five >> plain")
	w.sh(w.host, "echo mine > moved")
	if p := w.prepare(Options{}); p.Sent != 1 {
		t.Errorf("%+v", p)
	}
	if got := w.files(); got != "M plain" {
		t.Errorf("changed: %s", got)
	}
}

// TestARepositoryThatIsRewritten while it is copied is an error, and the next
// copy of it is right.
func TestARepositoryThatIsRewritten(t *testing.T) {
	for name, rewrite := range map[string]string{
		"a file":          "echo rewritten > untracked",
		"a longer file":   "cat binary >> untracked",
		"a file, shorter": ": > untracked",
	} {
		t.Run(name, func(t *testing.T) {
			var w *world
			disk := &files.Server{Users: &users.DB{}}
			all := disk.All()
			done := false
			all[wire.PathWrite] = func(in io.Reader, out io.Writer) error {
				err := disk.Write(in, out)
				if !done {
					w.sh(w.host, rewrite)
				}
				done = true
				return err
			}
			w = worldWith(t, (&control.Server{Streams: all}).Serve)
			w.repository()
			_, err := w.try(Options{})
			if banger.KindOf(err) != banger.KindConflict || !strings.Contains(err.Error(), "changed while it was copied") {
				t.Errorf("got %v", err)
			}
			refusal(t, w.exportError(), banger.KindConflict, "cut off")
			w.prepare(Options{})
			w.same()
		})
	}
	t.Run("its objects", func(t *testing.T) {
		w := newWorld(t)
		w.repository()
		i := &importing{src: source{root: w.host}}
		err := i.packGit(nil, ".git", dotGit{copied: map[string]string{"objects/pack/pack-0.pack": w.host + "/.git/objects/pack/pack-0.pack"}})
		if banger.KindOf(err) != banger.KindConflict {
			t.Errorf("got %v", err)
		}
	})
}

// TestAGuestThatAnswersGarbage: each answer in turn. The host's files stay as
// they are, and an honest guest is served afterwards.
func TestAGuestThatAnswersGarbage(t *testing.T) {
	disk := &files.Server{Users: &users.DB{}}
	all := disk.All()
	garbage := ""
	for name, honest := range all {
		all[name] = func(in io.Reader, out io.Writer) error {
			if garbage != name {
				return honest(in, out)
			}
			_, err := io.WriteString(out, "\x00\xff{]"+strings.Repeat("garbage ", 500))
			return errors.Join(err, func() error { _, err := io.Copy(io.Discard, in); return err }())
		}
	}
	w := worldWith(t, (&control.Server{Streams: all}).Serve)
	w.repository()
	for _, garbage = range []string{wire.PathStat, wire.PathChanges, wire.PathWrite} {
		if _, err := w.try(Options{}); banger.KindOf(err) != banger.KindUnavailable {
			t.Errorf("prepare, %s: %v", garbage, err)
		}
	}
	garbage = ""
	w.prepare(Options{})
	w.sh(w.target, "echo guest >> plain")
	before := w.sh(w.host, "git status --porcelain; cat plain")
	for _, garbage = range []string{wire.PathChanges, wire.PathPick} {
		if err := w.exportError(); banger.KindOf(err) != banger.KindUnavailable {
			t.Errorf("export, %s: %v", garbage, err)
		}
	}
	if after := w.sh(w.host, "git status --porcelain; cat plain"); after != before {
		t.Errorf("the host has %q", after)
	}
	garbage = ""
	if got := w.files(); got != "M plain" {
		t.Errorf("changed: %s", got)
	}
}

func TestPointersOfLFSAreSaid(t *testing.T) {
	w := newWorld(t)
	w.sh(filepath.Dir(w.host), `git init -q -b main app; cd app
		printf 'version https://git-lfs.github.com/spec/v1\noid sha256:%064d\nsize 12345\n' 0 > big; echo '* filter=lfs' > .gitattributes; git add .; git commit -q -m lfs`)
	if p := w.prepare(Options{}); !strings.Contains(p.Note, "only pointers of git LFS: 1") {
		t.Errorf("said: %q", p.Note)
	}
}

func TestARepositoryOfSHA256(t *testing.T) {
	w := newWorld(t)
	w.sh(filepath.Dir(w.host), "git init -q -b main --object-format=sha256 app; cd app; echo a > a; git add a; git commit -q -m a; echo b >> a; echo c > c")
	w.prepare(Options{})
	if got, want := w.sh(w.target, "git fsck --strict; git rev-parse HEAD; git status --porcelain"), w.sh(w.host, "git rev-parse HEAD; git status --porcelain"); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	w.sh(w.target, "git commit -q -a -m there; echo d >> c")
	e := w.export(ExportOptions{})
	if _, err := e.Branch(t.Context(), "back"); err != nil {
		t.Error(err)
	}
	if _, err := e.Apply(t.Context()); err != nil {
		t.Error(err)
	}
	if got := w.sh(w.host, "git log --format=%s back | tr '\\n' ' '; cat c; git fsck"); got != "there a c\nd\n" {
		t.Errorf("got %q", got)
	}
}

// TestALinkToItself is no directory to copy.
func TestALinkToItself(t *testing.T) {
	w := newWorld(t)
	loop := filepath.Join(filepath.Dir(w.host), "loop")
	if err := os.Symlink("loop", loop); err != nil {
		t.Fatal(err)
	}
	_, err := Prepare(t.Context(), w.vm, loop, Options{})
	refusal(t, err, banger.KindInvalid, "too many links")
}
