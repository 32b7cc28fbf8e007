package workspace

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"

	"banger.dev/banger"
	"banger.dev/banger/internal/agent/control"
	"banger.dev/banger/internal/agent/files"
	"banger.dev/banger/internal/agent/users"
	"banger.dev/banger/internal/agent/wire"
	"banger.dev/banger/internal/guest"
)

// world is a host with a repository and a guest without a machine around it:
// the agent's own server on this machine's disk.
type world struct {
	t      *testing.T
	vm     VM
	host   string // the repository
	target string // its copy
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return worldWith(t, honest())
}

func worldWith(t *testing.T, serve func(net.Conn)) *world {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("git is not installed")
	}
	t.Setenv("GIT_CONFIG_GLOBAL", "/dev/null")
	t.Setenv("GIT_CONFIG_NOSYSTEM", "1")
	return worldIn(t, t.TempDir(), serve)
}

// worldAt is a world that was made before.
func worldAt(t *testing.T, top string) *world {
	t.Helper()
	return worldIn(t, top, honest())
}

// honest is the agent as it is.
func honest() func(net.Conn) {
	disk := &files.Server{Users: &users.DB{}}
	return (&control.Server{Streams: disk.All()}).Serve
}

func worldIn(t *testing.T, top string, serve func(net.Conn)) *world {
	t.Helper()
	w := &world{t: t, host: filepath.Join(top, "app"), target: filepath.Join(top, "guest/app")}
	w.vm = VM{
		Name: "web", Dir: filepath.Join(top, "state"), Lock: filepath.Join(top, "lock"),
		Guest: guest.Files{Name: "web", Dial: func(context.Context) (net.Conn, error) {
			ours, theirs, err := pair()
			if err == nil {
				go serve(theirs)
			}
			return ours, err
		}},
	}
	return w
}

// pair is a connection that buffers, as the guest channel does.
func pair() (net.Conn, net.Conn, error) {
	dir, err := os.MkdirTemp("", "bng")
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	ln, err := net.Listen("unix", dir+"/s")
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = ln.Close() }()
	ours, err := net.Dial("unix", dir+"/s")
	if err != nil {
		return nil, nil, err
	}
	theirs, err := ln.Accept()
	return ours, theirs, err
}

// sh runs a script in dir.
func (w *world) sh(dir, script string) string {
	w.t.Helper()
	cmd := exec.Command("bash", "-euo", "pipefail", "-c", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_AUTHOR_NAME=A", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=C", "GIT_COMMITTER_EMAIL=c@d", "LC_ALL=C")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		w.t.Fatalf("%s: %v\n%s%s", script, err, out, stderr.String())
	}
	return string(out)
}

// repository is one with every oddity.
func (w *world) repository() {
	w.t.Helper()
	if err := os.MkdirAll(w.host, 0o755); err != nil {
		w.t.Fatal(err)
	}
	w.sh(w.host, `
		git init -q -b main .
		printf 'one\ntwo\nthree\n' > plain
		printf '#!/bin/sh\n' > run; chmod 755 run
		ln -s plain link; ln -s /nowhere broken; ln -s loop loop
		mkdir -p dir/deep; echo deep > dir/deep/file; ln -s .. dir/up
		printf 'odd' > $'new\nline'; printf 'odd' > $'bytes\xff\xfe'; printf 'q' > 'quo"te \ tab	x'
		head -c 3000 /dev/urandom > binary
		printf '*.o\nbuild/\n' > .gitignore
		echo to-be-deleted > deleted
		printf 'crlf\r\n' > crlf; echo '*.txt text eol=crlf' > .gitattributes; printf 'a\n' > text.txt
		git add -A && git commit -q -m first
		git tag -a v1 -m one
		echo second >> plain && git commit -q -a -m second
		git branch other HEAD~1
		# the working tree is not clean
		echo changed >> dir/deep/file
		echo staged > staged && git add staged
		echo untracked > untracked; mkdir new; echo x > new/x
		rm deleted
		mkdir build; echo no > build/out; echo no > x.o
		chmod 755 plain`)
}

func (w *world) prepare(how Options) Prepared {
	w.t.Helper()
	p, err := w.try(how)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

func (w *world) try(how Options) (Prepared, error) {
	how.Target = w.target
	return Prepare(w.t.Context(), w.vm, w.host, how)
}

func (w *world) export(how ExportOptions) *Export {
	w.t.Helper()
	e, err := NewExport(w.t.Context(), w.vm, how)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(e.Close)
	return e
}

func (w *world) files() string {
	w.t.Helper()
	e := w.export(ExportOptions{})
	defer e.Close()
	all, err := e.Files(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	var lines []string
	for _, f := range all {
		lines = append(lines, f.Status+" "+f.Path)
	}
	return strings.Join(lines, ", ")
}

const look = `git status --porcelain -z | tr '\0' '\n'; git rev-parse HEAD v1 other; git symbolic-ref HEAD; git stash create >/dev/null; git diff HEAD | sha256sum; find . -name .git -prune -o \( -type f -o -type l \) -print0 | sort -z | xargs -0 ls -ld --time-style=+ | awk '{print $1}' | sha256sum`

func TestACopyIsTheSameToGit(t *testing.T) {
	w := newWorld(t)
	w.repository()
	p := w.prepare(Options{})
	if p.Path != w.target || p.Branch != "main" || p.Sent != p.Files {
		t.Errorf("%+v", p)
	}
	w.sh(w.host, "rm -rf build x.o") // which are ignored, and no part of the copy
	if got, want := w.sh(w.target, look), w.sh(w.host, look); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	w.sh(w.target, "git fsck --strict && git log --oneline | wc -l | grep -q 2")
	if got := w.files(); got != "" {
		t.Errorf("changed already: %s", got)
	}
}

func TestWorktreesSubmodulesAndDepth(t *testing.T) {
	w := newWorld(t)
	w.repository()
	main := w.host
	w.sh(main, `git init -q ../lib && cd ../lib && echo lib > lib.c && git add . && git commit -q -m lib && cd ../app &&
		git -c protocol.file.allow=always submodule --quiet add ../lib sub && git commit -q -m sub && git worktree add -q ../tree -b tree &&
		cd ../tree && echo tree > only-here && git -c protocol.file.allow=always submodule --quiet update --init && echo more >> sub/lib.c && mkdir nested && git init -q nested && echo n > nested/n`)
	w.host = filepath.Join(filepath.Dir(main), "tree")
	if p := w.prepare(Options{Branch: "fix", Depth: 1}); p.Branch != "fix" {
		t.Errorf("%+v", p)
	}
	if got, want := w.sh(w.target, "git status --porcelain"), w.sh(w.host, "git status --porcelain"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	w.sh(w.target, `test "$(git log --oneline | wc -l)" = 1; test "$(git symbolic-ref --short HEAD)" = fix; git fsck --strict; git -C sub log --oneline; grep -q more sub/lib.c; test -f nested/n`)
	w.sh(w.target, "echo guest >> sub/lib.c; echo g > only-here")
	if got := w.files(); got != "M only-here, M sub/lib.c" {
		t.Errorf("changed: %s", got)
	}
}

func TestFromACommit(t *testing.T) {
	w := newWorld(t)
	w.repository()
	if p := w.prepare(Options{From: "other", Branch: "fix"}); p.Branch != "fix" {
		t.Errorf("%+v", p)
	}
	w.sh(w.target, `test -z "$(git status --porcelain)"; test "$(git rev-parse HEAD)" = "$(git rev-parse other)"; test -f deleted; test ! -e untracked; test ! -e staged`)
	w.sh(w.target, "echo guest > deep-change")
	// Over a working tree that has gone on.
	e := w.export(ExportOptions{})
	if _, err := e.Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.Close()
	w.sh(w.host, "grep -q guest deep-change; grep -q changed dir/deep/file")
	if _, err := w.try(Options{From: "--no-such"}); banger.KindOf(err) != banger.KindNotFound {
		t.Errorf("got %v", err)
	}
}

const guestWork = `
	echo four >> plain; rm -f dir/deep/file; git mv run moved 2>/dev/null || mv run moved
	chmod 755 crlf; ln -sfn dir link; echo fresh > fresh; printf 'x\0y' > new-binary; head -c 2000 /dev/urandom > binary
	echo obj > y.o; mkdir -p build other; echo b > build/b; echo '*.log' > other/.gitignore; echo l > other/x.log; echo k > other/kept
	touch untracked; printf 'z' > $'fresh\nline'; printf 'z' > $'fresh\xff'`

func TestExportAsAPatch(t *testing.T) {
	w := newWorld(t)
	w.repository()
	w.prepare(Options{})
	before := w.sh(w.target, "git status --porcelain > /dev/null; find .git -type f | sort | xargs sha256sum")
	w.sh(w.target, strings.ReplaceAll(guestWork, "git mv run moved 2>/dev/null || ", ""))
	want := "M binary, M crlf, D dir/deep/file, A fresh, A fresh\nline, A fresh\xff, M link, A moved, A new-binary, A other/.gitignore, A other/kept, M plain, D run"
	if got := w.files(); got != want {
		t.Errorf("changed:\n%q\nwant\n%q", got, want)
	}
	e := w.export(ExportOptions{})
	var patch bytes.Buffer
	if err := e.Patch(t.Context(), &patch); err != nil {
		t.Fatal(err)
	}
	e.Close()
	if after := w.sh(w.target, "find .git -type f | sort | xargs sha256sum"); after != before {
		t.Error("the export changed the guest's repository")
	}
	if !strings.Contains(patch.String(), "rename from run") || !strings.Contains(patch.String(), "GIT binary patch") {
		t.Errorf("%s", patch.String())
	}
	name := filepath.Join(t.TempDir(), "patch")
	if err := os.WriteFile(name, patch.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	w.sh(w.host, "git apply --whitespace=nowarn "+name)
	w.same()
}

// same compares the two working trees, but for what is ignored.
func (w *world) same() {
	w.t.Helper()
	const files = `find . \( -name .git -o -name build -o -name '*.o' -o -name '*.log' \) -prune -o \( -type f -o -type l \) -print0 | sort -z | xargs -0 -I{} sh -c 'test -L "$1" && readlink "$1" || { sha256sum < "$1"; stat -c %a "$1"; }; printf "%s\n" "$1"' _ {}`
	if got, want := w.sh(w.host, files), w.sh(w.target, files); got != want {
		w.t.Errorf("the host has\n%s\nthe guest\n%s", got, want)
	}
}

func TestExportAsATar(t *testing.T) {
	w := newWorld(t)
	w.repository()
	w.prepare(Options{})
	w.sh(w.target, "echo four >> plain; rm run; ln -sfn dir link; : > nothing; printf '#!/bin/sh\\n' > tool; chmod 755 tool")
	name := filepath.Join(t.TempDir(), "tar")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.export(ExportOptions{}).Tar(t.Context(), f), f.Close()); err != nil {
		t.Fatal(err)
	}
	want := "lrwxrwxrwx link -> dir\n-rw-r--r-- nothing\n-rwxr-xr-x plain\n-rwxr-xr-x tool\n"
	if got := w.sh(t.TempDir(), "tar -tvf "+name+" | awk '{print $1, $6, $7, $8}' | sed 's/ *$//'"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	w.sh(t.TempDir(), "tar -xf "+name+" && cmp plain "+w.target+"/plain && cmp tool "+w.target+"/tool")
}

func TestApplyMerges(t *testing.T) {
	w := newWorld(t)
	w.repository()
	w.prepare(Options{})
	w.sh(w.target, guestWork)
	// Meanwhile: another end of the same file, and another file.
	w.sh(w.host, "sed -i 1s/one/ONE/ plain; echo mine > mine; git add mine")
	index := w.sh(w.host, "git ls-files -s | sha256sum")
	e := w.export(ExportOptions{})
	applied, err := e.Apply(t.Context())
	if err != nil || len(applied) != 13 {
		t.Fatalf("%v, %v", applied, err)
	}
	if got := w.sh(w.host, "cat plain"); got != "ONE\ntwo\nthree\nsecond\nfour\n" {
		t.Errorf("merged: %q", got)
	}
	if w.sh(w.host, "git ls-files -s | sha256sum") != index {
		t.Error("the index has changed")
	}
	w.sh(w.host, "test ! -e dir/deep && test -f mine && test -x moved && ls .git | grep -c banger-apply | grep -q 0 || true; ! ls -A | grep -q banger")
	if again, err := e.Apply(t.Context()); err != nil || len(again) != 0 {
		t.Errorf("again: %v, %v", again, err)
	}
}

func TestAConflictAppliesNothing(t *testing.T) {
	w := newWorld(t)
	w.repository()
	w.prepare(Options{})
	w.sh(w.target, "echo guest > plain; echo new > aaa")
	w.sh(w.host, "echo host > plain")
	before := w.sh(w.host, "find . -path ./.git -prune -o -type f -print0 | sort -z | xargs -0 sha256sum")
	_, err := w.export(ExportOptions{}).Apply(t.Context())
	if banger.KindOf(err) != banger.KindConflict || !strings.Contains(err.Error(), "plain") {
		t.Errorf("got %v", err)
	}
	if after := w.sh(w.host, "find . -path ./.git -prune -o -type f -print0 | sort -z | xargs -0 sha256sum"); after != before {
		t.Error("the working tree has changed")
	}
}

func TestASecondPrepareSendsWhatChanged(t *testing.T) {
	w := newWorld(t)
	w.repository()
	w.prepare(Options{})
	w.sh(w.target, "echo guest > fresh; git status > /dev/null")
	w.sh(w.host, "echo more >> plain; rm untracked; echo u2 > u2; git add u2; git commit -q -m third plain")
	p := w.prepare(Options{})
	if p.Sent != 2 || p.Removed != 1 {
		t.Errorf("%+v", p)
	}
	if got, want := w.sh(w.target, "rm fresh; git status --porcelain; git rev-parse HEAD"), w.sh(w.host, "git status --porcelain; git rev-parse HEAD"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	w.sh(w.target, "echo guest >> plain")
	if got := w.files(); got != "M plain" {
		t.Errorf("changed: %s", got)
	}
	w.sh(w.host, "echo host >> plain")
	if _, err := w.try(Options{}); banger.KindOf(err) != banger.KindConflict || !strings.Contains(err.Error(), "plain") {
		t.Errorf("overwritten, or %v", err)
	}
	if got := w.files(); got != "M plain" {
		t.Errorf("changed after the refusal: %s", got)
	}
	w.prepare(Options{Force: true})
	if got := w.files(); got != "" {
		t.Errorf("changed after --force: %s", got)
	}
}

func TestCommitsComeBackAsABranch(t *testing.T) {
	w := newWorld(t)
	w.repository()
	w.prepare(Options{Branch: "fix"})
	e := w.export(ExportOptions{})
	if _, err := e.Branch(t.Context(), "back"); banger.KindOf(err) != banger.KindConflict {
		t.Errorf("without a commit: %v", err)
	}
	e.Close()
	w.sh(w.target, `echo 1 > c1 && git add c1 && git commit -q --author='Guest <g@h>' -m 'a message' && echo 2 > c2 && git add c2 && git commit -q -m two && git gc -q`)
	e = w.export(ExportOptions{})
	if _, err := e.Branch(t.Context(), "back"); err != nil {
		t.Fatal(err)
	}
	if got := w.sh(w.host, "git log --format='%an %s' main..back; git symbolic-ref --short HEAD; git fsck"); got != "A two\nGuest a message\nmain\n" {
		t.Errorf("got %q", got)
	}
	if _, err := e.Branch(t.Context(), "back"); banger.KindOf(err) != banger.KindConflict {
		t.Errorf("again: %v", err)
	}
	if _, err := e.Branch(t.Context(), "a..b"); banger.KindOf(err) != banger.KindInvalid {
		t.Errorf("a bad name: %v", err)
	}
}

// TestCommitsOfSubmodules come back into the host's submodules, or nothing does.
func TestCommitsOfSubmodules(t *testing.T) {
	w := newWorld(t)
	w.sh(filepath.Dir(w.host), `git init -q -b main lib; cd lib; echo lib > lib.c; git add .; git commit -q -m lib; cd ..
		git init -q -b main app; cd app; echo a > a; git -c protocol.file.allow=always submodule --quiet add ../lib sub; git add .; git commit -q -m app`)
	w.prepare(Options{})
	branch := func(name string) ([]Carried, error) {
		e := w.export(ExportOptions{})
		defer e.Close()
		return e.Branch(t.Context(), name)
	}
	refs := "git for-each-ref --format='%(refname)'; git -C sub for-each-ref --format='%(refname)'"
	before := w.sh(w.host, refs)

	// A commit that the submodule has left behind would be lost.
	w.sh(w.target, `cd sub; git commit -q --allow-empty -m lost; cd ..; git add sub; git commit -q -m 'refers to it'; git -C sub reset -q --hard HEAD~1`)
	_, err := branch("back")
	refusal(t, err, banger.KindConflict, `of the submodule "sub" is neither here nor`)
	if after := w.sh(w.host, refs); after != before {
		t.Errorf("the host has %s", after)
	}

	w.sh(w.target, `git init -q new; git -C new commit -q --allow-empty -m new; git add new 2>/dev/null; git commit -q -m 'refers to what is new'`)
	_, err = branch("back")
	refusal(t, err, banger.KindConflict, `the submodule "new" was made in web`)
	w.sh(w.target, "git reset -q --hard HEAD~1; rm -rf new")

	w.sh(w.target, `cd sub; git checkout -q -b work; echo guest >> lib.c; git commit -q -a -m 'in the submodule'; cd ..; git add sub; git commit -q -m 'outside'`)
	carried, err := branch("back")
	if err != nil {
		t.Fatal(err)
	}
	if len(carried) != 2 || carried[0].Path != "." || carried[1].Path != "sub" {
		t.Errorf("%+v", carried)
	}
	w.sh(w.host, `git fsck --strict; git -C sub fsck --strict; test "$(git log --format=%s -1 back)" = outside; test "$(git -C sub log --format=%s -1 back)" = 'in the submodule'
		test "$(git rev-parse back:sub)" = "$(git -C sub rev-parse back)"; test "$(git status --porcelain)" = ''`)
	_, err = branch("back")
	refusal(t, err, banger.KindConflict, "has a branch back already")

	// A second prepare leaves them where they are.
	w.sh(w.host, "echo b > b")
	if p := w.prepare(Options{}); !strings.Contains(p.Note, "are kept") {
		t.Errorf("said: %q", p.Note)
	}
	w.sh(w.target, `test "$(git -C sub log --format=%s -1)" = 'in the submodule'; test "$(git log --format=%s -1)" = outside`)
}

// TestCommitsOfASubmoduleAlone are no commits of the repository around it.
func TestCommitsOfASubmoduleAlone(t *testing.T) {
	w := newWorld(t)
	w.sh(filepath.Dir(w.host), `git init -q -b main app; cd app; echo a > a; git add a; git commit -q -m app; git init -q -b main inner; cd inner; echo i > i; git add i; git commit -q -m inner`)
	w.prepare(Options{})
	w.sh(w.target, `cd inner; echo guest >> i; git commit -q -a -m there`)
	carried, err := w.export(ExportOptions{}).Branch(t.Context(), "back")
	if err != nil || len(carried) != 1 || carried[0].Path != "inner" {
		t.Fatalf("%+v, %v", carried, err)
	}
	w.sh(w.host, `test "$(git -C inner log --format=%s -1 back)" = there; ! git rev-parse --verify --quiet back`)
}

func TestADirectoryThatIsNoRepository(t *testing.T) {
	w := newWorld(t)
	w.sh(filepath.Dir(w.host), "mkdir app; cd app; echo a > a; mkdir -p empty node_modules skipped; echo n > node_modules/n; echo s > skipped/s; ln -s a l; ln -s loop loop")
	w.prepare(Options{Exclude: []string{"skip*"}})
	if got := w.sh(w.target, "find . | sort | tr '\\n' ' '"); got != ". ./a ./empty ./l ./loop " {
		t.Errorf("copied: %s", got)
	}
	w.sh(w.target, "echo b >> a; echo new > new")
	if _, err := w.export(ExportOptions{}).Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := w.sh(w.host, "cat a new"); got != "a\nb\nnew\n" {
		t.Errorf("applied: %q", got)
	}
}

// TestRepositoriesInADirectory that is none come as repositories do.
func TestRepositoriesInADirectory(t *testing.T) {
	w := newWorld(t)
	w.sh(filepath.Dir(w.host), `mkdir app; cd app; echo a > a; mkdir -p in/here; git init -q -b main in/here/repo; cd in/here/repo; echo '*.o' > .gitignore; echo r > r
		git add .; git commit -q -m r; echo o > x.o; echo u > u; echo echo > .git/hooks/pre-commit; git remote add origin https://me:secret@example.org/x`)
	w.prepare(Options{})
	w.sh(w.target, `test -f a; cd in/here/repo; test ! -e .git/hooks; test ! -e x.o; ! grep -r secret .git/config; git fsck --strict; test "$(git status --porcelain)" = '?? u'`)
	w.sh(w.target, "echo guest >> in/here/repo/r; echo guest >> a")
	if got := w.files(); got != "M a, M in/here/repo/r" {
		t.Errorf("changed: %s", got)
	}
	if p := w.prepare(Options{}); p.Sent != 0 {
		t.Errorf("%+v", p)
	}
}

// TestNothingOfARepositoryIsRun: its settings, hooks and filters would each
// write a file on the host.
func TestNothingOfARepositoryIsRun(t *testing.T) {
	w := newWorld(t)
	w.repository()
	trap := filepath.Join(t.TempDir(), "trap")
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho \"$0 $*\" >> "+trap+"\ncat\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	w.sh(w.host, `
		for hook in pre-commit post-checkout post-merge reference-transaction post-index-change fsmonitor-watchman pre-auto-gc post-rewrite; do cp `+script+` .git/hooks/$hook; done
		git config filter.evil.clean `+script+`; git config filter.evil.smudge `+script+`; git config filter.evil.process `+script+`
		git config diff.evil.textconv `+script+`; git config diff.evil.command `+script+`; git config merge.evil.driver `+script+`; git config diff.external `+script+`
		git config core.pager `+script+`; git config core.editor `+script+`; git config core.sshCommand `+script+`; git config uploadpack.packObjectsHook `+script+`
		git config core.hooksPath .git/hooks; git config alias.status '!`+script+`'; git config credential.helper `+script+`
		git config remote.origin.url 'https://me:secret@example.org/x'
		git config core.fsmonitor `+script+`
		echo '* filter=evil diff=evil merge=evil' > .git/info/attributes; cp .git/info/attributes .gitattributes; rm -f `+trap)
	w.prepare(Options{Branch: "fix", Depth: 1})
	w.sh(w.target, `echo guest >> plain; git -c user.name=x commit -q -m guest plain`)
	w.sh(w.host, "rm -f "+trap+"; sed -i 1s/one/ONE/ plain")
	e := w.export(ExportOptions{})
	if err := e.Patch(t.Context(), &bytes.Buffer{}); err != nil {
		t.Error(err)
	}
	if _, err := e.Apply(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := e.Branch(t.Context(), "back"); err != nil {
		t.Error(err)
	}
	if ran, err := os.ReadFile(trap); err == nil {
		t.Errorf("was run:\n%s", ran)
	}
	w.sh(w.target, "! grep -rq 'secret\\|evil\\|script' .git/config; test ! -e .git/hooks")
}

// TestOneCopyAtATime: on one VM copies run one after another, on several at the
// same time, and an export waits for a copy.
func TestOneCopyAtATime(t *testing.T) {
	var worlds []*world
	var busy, most atomic.Int32
	arrived := make(chan struct{}, 16)
	release := make(chan struct{})
	for range 3 {
		disk := &files.Server{Users: &users.DB{}}
		all := disk.All()
		all[wire.PathWrite] = func(in io.Reader, out io.Writer) error {
			most.Store(max(most.Load(), busy.Add(1)))
			defer busy.Add(-1)
			arrived <- struct{}{}
			<-release
			return disk.Write(in, out)
		}
		w := worldWith(t, (&control.Server{Streams: all}).Serve)
		w.repository()
		worlds = append(worlds, w)
	}
	var group errgroup.Group
	start := func(w *world) {
		group.Go(func() error { _, err := w.try(Options{}); return err })
	}
	for range 3 {
		start(worlds[0])
	}
	<-arrived
	group.Go(func() error {
		e, err := NewExport(t.Context(), worlds[0].vm, ExportOptions{})
		if err == nil {
			defer e.Close()
			if len(e.changed)+len(e.gone) > 0 {
				err = fmt.Errorf("an export sees half a copy: %v %v", e.changed, e.gone)
			}
		}
		if banger.KindOf(err) == banger.KindNotFound {
			err = nil // it was the first in the line
		}
		return err
	})
	start(worlds[1])
	start(worlds[2])
	<-arrived
	<-arrived // three VMs at the same time, one of the first VM's
	if got := busy.Load(); got != 3 {
		t.Errorf("%d copies at a time", got)
	}
	close(release)
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	if got := most.Load(); got != 3 {
		t.Errorf("up to %d copies at a time", got)
	}
}
