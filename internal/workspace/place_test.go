package workspace

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"banger.dev/banger"
	"banger.dev/banger/internal/steps"
)

// applied is a world whose guest has changed files in each way that there is.
func applied(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.sh(filepath.Dir(w.host), `git init -q -b main app; cd app; echo one > plain; echo run > run; mkdir -p dir/deep; echo deep > dir/deep/file; ln -s plain link
		git add .; git commit -q -m first; echo staged > staged; git add staged; echo more >> plain`)
	w.prepare(Options{})
	w.sh(w.target, "echo guest >> plain; rm -r dir; rm run; mkdir run; echo in > run/in; ln -sf run link; mkdir -p a/b; echo new > a/b/new; chmod 755 staged")
	return w
}

// everything is what a user could notice of a repository: files, index and HEAD.
const everything = `git ls-files -s; cat .git/HEAD; git rev-parse HEAD; ls -A .git | grep -v banger-apply; ` + tree

const tree = `find . -path ./.git -prune -o \( -type f -o -type l \) -print0 | sort -z | xargs -0 -I{} sh -c 'printf "%s\n" "$1"; stat -c "%a %F" "$1"; cat "$1" 2>/dev/null || readlink "$1"' _ {}`

// points are all moments of an apply, in order.
func points(t *testing.T) []string {
	t.Helper()
	w := applied(t)
	var all []string
	w.vm.Steps.Fault = func(at steps.Point) error {
		all = append(all, at.String())
		return nil
	}
	if _, err := w.export(ExportOptions{}).Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	return all
}

// killedEnv has a test's child apply in a world that its parent has made, until a
// moment comes at which it kills itself.
const killedEnv = "BANGER_TEST_APPLY"

// TestApplyKilledAtAnyMoment: the next export finds the tree as it was, or with
// all changes, and says if it had to be put right.
func TestApplyKilledAtAnyMoment(t *testing.T) {
	if at := os.Getenv(killedEnv); at != "" {
		killed(t, at)
		return
	}
	all := points(t)
	for n, point := range all {
		t.Run(fmt.Sprintf("%d %s", n, point), func(t *testing.T) {
			w := applied(t)
			before := w.sh(w.host, everything)
			child := exec.Command(os.Args[0], "-test.run=^TestApplyKilledAtAnyMoment$")
			child.Env = append(os.Environ(), fmt.Sprintf("%s=%d\n%s", killedEnv, n, filepath.Dir(w.host)))
			out, err := child.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != -1 {
				t.Fatalf("%v\n%s", err, out)
			}
			e := w.export(ExportOptions{})
			e.Close()
			w.sh(w.host, "! ls -A .git | grep banger-apply")
			after := w.sh(w.host, everything)
			switch {
			case point == "after apply.done":
				w.same()
			case after != before:
				t.Errorf("the tree has\n%s\nand had\n%s", after, before)
			}
			if moved := n >= 5 && n < len(all)-1; moved != strings.Contains(e.Note, "is undone in "+w.host) {
				t.Errorf("said: %q", e.Note)
			}
			e = w.export(ExportOptions{})
			if _, err := e.Apply(t.Context()); err != nil {
				t.Fatal(err)
			}
			w.same()
		})
	}
}

// killed is the child: it kills itself at the moment with a number.
func killed(t *testing.T, at string) {
	number, top, _ := strings.Cut(at, "\n")
	w := worldAt(t, top)
	seen := 0
	w.vm.Steps.Fault = func(steps.Point) error {
		if fmt.Sprint(seen) == number {
			_ = unix.Kill(os.Getpid(), unix.SIGKILL)
		}
		seen++
		return nil
	}
	e := w.export(ExportOptions{})
	_, err := e.Apply(t.Context())
	t.Fatalf("it lives: %v", err)
}

// TestApplyFailsAtAnyMoment leaves the tree as it was.
func TestApplyFailsAtAnyMoment(t *testing.T) {
	w := applied(t)
	before := w.sh(w.host, everything)
	for n := range points(t) {
		broken, seen := errors.New("the disk is gone"), 0
		w.vm.Steps.Fault = func(at steps.Point) error {
			seen++
			if seen == n+1 && at.String() != "after apply.done" {
				return broken
			}
			return nil
		}
		e := w.export(ExportOptions{})
		_, err := e.Apply(t.Context())
		e.Close()
		if err == nil {
			w.same()
			break
		}
		if !errors.Is(err, broken) {
			t.Errorf("%d: %v", n, err)
		}
		if after := w.sh(w.host, everything); after != before {
			t.Errorf("%d: the tree has\n%s\nand had\n%s", n, after, before)
		}
		w.sh(w.host, "! ls -A .git | grep banger-apply")
	}
}

// A file that somebody saves while the changes are on their way in is theirs.
func TestAFileThatIsSavedWhileChangesAreAppliedStays(t *testing.T) {
	w := newWorld(t)
	w.repository()
	w.prepare(Options{})
	w.sh(w.target, "echo guest > plain; echo new > aaa")
	w.vm.Steps.Fault = func(at steps.Point) error {
		if at.String() == "after apply.list" {
			w.sh(w.host, "echo saved > plain")
		}
		return nil
	}
	if _, err := w.export(ExportOptions{}).Apply(t.Context()); banger.KindOf(err) != banger.KindConflict || !strings.Contains(err.Error(), "plain") {
		t.Errorf("got %v", err)
	}
	w.sh(w.host, "test $(cat plain) = saved; test ! -e aaa; ! ls -A .git | grep banger-apply")
}

// TestWhatWasChangedSinceIsNotMovedBack: after an apply that was cut off a file
// is the user's again; what was there before is kept.
func TestWhatWasChangedSinceIsNotMovedBack(t *testing.T) {
	w := newWorld(t)
	w.repository()
	w.prepare(Options{})
	w.sh(w.target, "echo guest > plain; echo guest > run")
	e := w.export(ExportOptions{})
	gone := errors.New("gone")
	moved := 0
	w.vm.Steps.Fault = func(at steps.Point) error {
		if at.String() != "after apply.move" {
			return nil
		}
		if moved++; moved < 2 {
			return nil
		}
		w.sh(w.host, "echo mine > plain")
		return gone
	}
	e.vm.Steps = w.vm.Steps
	_, err := e.Apply(t.Context())
	e.Close()
	if !errors.Is(err, gone) || !strings.Contains(err.Error(), `"plain" could not be moved back`) {
		t.Errorf("got %v", err)
	}
	w.sh(w.host, `test $(cat plain) = mine; grep -q '#!' run; grep -q three .git/.banger-apply-*/old-*`)
	e = w.export(ExportOptions{})
	defer e.Close()
	if !strings.Contains(e.Note, `but for "plain", which changed since`) {
		t.Errorf("said: %q", e.Note)
	}
	w.sh(w.host, `test $(cat plain) = mine; grep -q three .git/.banger-apply-*/old-*`)
}

// TestAnotherApplyIsLeftAlone while it lives.
func TestAnotherApplyIsLeftAlone(t *testing.T) {
	w := newWorld(t)
	w.repository()
	dir, err := os.MkdirTemp(placeBeside(w.host), placingPrefix)
	if err != nil {
		t.Fatal(err)
	}
	p, err := openPlacing(w.host, dir)
	if err != nil {
		t.Fatal(err)
	}
	if note, err := recoverTree(w.host); note != "" || err != nil {
		t.Errorf("%q, %v", note, err)
	}
	w.sh(w.host, "ls -A .git | grep -q banger-apply")
	p.close()
	if note, err := recoverTree(w.host); note != "" || err != nil {
		t.Errorf("%q, %v", note, err)
	}
	w.sh(w.host, "! ls -A .git | grep banger-apply")
}
