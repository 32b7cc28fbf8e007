package workspace

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"banger.dev/banger/internal/agent/archive"
	"banger.dev/banger/internal/agent/wire"
	"banger.dev/banger/internal/ipc"
	"banger.dev/banger/internal/replace"
	"banger.dev/banger/internal/room"
	"banger.dev/banger/internal/steps"
)

// placing puts files into a working tree. They are made in a directory beside it,
// on the same file system, and then moved in one by one, what was there to that
// directory. Before the first is moved the directory has a list of them, by which
// all of them are moved back should one fail, or should banger be killed.
type placing struct {
	root   *os.File
	tree   archive.Tree
	dir    string
	staged *os.File
	held   *ipc.Held // as long as whoever places lives
	moves  []move
}

// move is a file that is moved in, in the order of the list: new-N is what comes,
// old-N what was there.
type move struct {
	Path wire.Text `json:"path"`
	New  version   `json:"new"` // zero if a file is only taken away
}

// The names in the directory.
const (
	placingPrefix = ".banger-apply-"
	placingLock   = "lock"
	placingList   = "list"
)

func name(kind string, n int) string { return fmt.Sprintf("%s-%d", kind, n) }

// place does all of todo, or nothing.
func (e *Export) place(ctx context.Context, todo []difference) error {
	dir, err := os.MkdirTemp(placeBeside(e.state.Root), placingPrefix)
	if err != nil {
		return err
	}
	p, err := openPlacing(e.state.Root, dir)
	if err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	defer p.close()
	if err := e.vm.Steps.Run(ctx, e.vm.Name, e.placeSteps(p, todo)...); err != nil {
		_, kept, failed := p.undo()
		return errors.Join(steps.Cause(err), failed, keptError(kept, dir))
	}
	return nil
}

func (e *Export) placeSteps(p *placing, todo []difference) []steps.Step {
	list := []steps.Step{
		{Name: "apply.stage", Do: func(ctx context.Context) error { return e.stageAll(ctx, p, todo) }},
		{Name: "apply.list", Do: func(context.Context) error { return p.write() }},
	}
	for _, removing := range []bool{true, false} { // a file may become a directory
		for n, d := range todo {
			if removing == (d.status == "D") {
				list = append(list, steps.Step{Name: "apply.move", Do: func(context.Context) error { return e.move(p, n) }})
			}
		}
	}
	return append(list, steps.Step{Name: "apply.done", Do: func(context.Context) error { return p.done() }})
}

// openPlacing takes a directory beside a working tree. The error is ipc.ErrHeld
// if somebody places files from it.
func openPlacing(root, dir string) (*placing, error) {
	held, err := ipc.Lock(filepath.Join(dir, placingLock))
	if err != nil {
		return nil, err
	}
	p := &placing{dir: dir, held: held}
	if p.root, err = archive.OpenDir(root); err == nil {
		p.tree = archive.NewTree(p.root)
		if p.staged, err = archive.OpenDir(dir); err == nil {
			return p, nil
		}
		p.tree.Close()
		_ = p.root.Close()
	}
	_ = held.Release()
	return nil, err
}

func (p *placing) close() {
	p.tree.Close()
	_, _, _ = p.root.Close(), p.staged.Close(), p.held.Release()
}

// placeBeside is a directory on the file system of a working tree in which nobody
// looks for files of it.
func placeBeside(root string) string {
	git := filepath.Join(root, ".git")
	if info, err := os.Lstat(git); err == nil && info.IsDir() {
		return git
	}
	return root
}

func (e *Export) stageAll(ctx context.Context, p *placing, todo []difference) error {
	for n, d := range todo {
		m := move{Path: wire.Text(d.path)}
		if d.status != "D" {
			if err := room.At(p.dir, 0); err != nil {
				return err
			}
			if err := e.stage(ctx, p.dir, n, d); err != nil {
				return err
			}
			st, err := lstat(filepath.Join(p.dir, name("new", n)))
			if err != nil {
				return err
			}
			m.New = versionOf(st)
		}
		p.moves = append(p.moves, m)
	}
	return nil
}

// stage makes the file new-n of a difference.
func (e *Export) stage(ctx context.Context, dir string, n int, d difference) error {
	to := filepath.Join(dir, name("new", n))
	if d.mode == "120000" {
		target, err := e.own.run(ctx, "cat-file", "blob", d.id)
		if err != nil {
			return err
		}
		return os.Symlink(target, to)
	}
	mode := os.FileMode(0o666)
	if d.mode == "100755" {
		mode = 0o777
	}
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode) // the umask is the user's wish
	if err != nil {
		return err
	}
	return errors.Join(e.content(ctx, f, d), f.Close())
}

// content writes a file's content, with the holes that the guest's file has.
func (e *Export) content(ctx context.Context, f *os.File, d difference) error {
	g := e.own.large()
	if !e.sparse[d.path] {
		return g.pipe(ctx, nil, io.Writer(f), "cat-file", "blob", d.id)
	}
	holes := archive.NewHoles(f)
	return errors.Join(g.pipe(ctx, nil, holes, "cat-file", "blob", d.id), holes.End())
}

// write writes the list down.
func (p *placing) write() error {
	content, err := json.Marshal(p.moves)
	if err != nil {
		return err
	}
	return replace.File(filepath.Join(p.dir, placingList), content, 0o600)
}

// read reads the list of one who was killed.
func (p *placing) read() error {
	content, err := os.ReadFile(filepath.Join(p.dir, placingList))
	if err == nil {
		err = json.Unmarshal(content, &p.moves)
	}
	for _, m := range p.moves {
		err = errors.Join(err, judge(string(m.Path)))
	}
	return err
}

func (e *Export) move(p *placing, n int) error {
	path := string(p.moves[n].Path)
	if err := e.unchanged(p.tree, path); err != nil {
		return err
	}
	if err := p.tree.Swap(path, p.staged, name("new", n), name("old", n)); err != nil {
		return fmt.Errorf("%s: %w", quote(path), err)
	}
	return nil
}

// done makes the moves final: without the list nobody moves them back.
func (p *placing) done() error {
	if err := os.Remove(filepath.Join(p.dir, placingList)); err != nil {
		return err
	}
	for _, m := range p.moves {
		if m.New == (version{}) {
			p.tree.Prune(string(m.Path))
		}
	}
	_ = os.RemoveAll(p.dir) // else it is swept the next time
	return nil
}

// undo moves back what was moved and removes the directory. A file that somebody
// has changed since stays; the directory then keeps the one that was there before.
func (p *placing) undo() (moved int, kept []string, err error) {
	for n := len(p.moves) - 1; n >= 0; n-- {
		if !p.begun(n) {
			continue
		}
		done, failed := p.back(n)
		if done {
			moved++
		} else {
			kept = append(kept, string(p.moves[n].Path))
		}
		err = errors.Join(err, failed)
	}
	if len(kept) == 0 {
		err = errors.Join(err, os.RemoveAll(p.dir))
	}
	return moved, kept, err
}

// begun says whether anything of a move was done.
func (p *placing) begun(n int) bool { return p.arrived(n) || p.has(name("old", n)) }

func (p *placing) arrived(n int) bool {
	return p.moves[n].New != (version{}) && !p.has(name("new", n))
}

// back undoes one move, however far it has come, unless somebody has been there since.
func (p *placing) back(n int) (done bool, err error) {
	m, saved := p.moves[n], p.has(name("old", n))
	expected := version{}
	if p.arrived(n) {
		expected = m.New
	}
	now, err := versionAt(p.tree, string(m.Path))
	if err != nil || now != expected {
		return false, err
	}
	if err := p.tree.Unswap(string(m.Path), p.staged, name("new", n), name("old", n)); err != nil {
		return false, err
	}
	if !saved {
		p.tree.Prune(string(m.Path)) // directories that were made for it
	}
	return true, nil
}

func (p *placing) has(file string) bool {
	_, err := os.Lstat(filepath.Join(p.dir, file))
	return err == nil
}

func keptError(kept []string, dir string) error {
	if len(kept) == 0 {
		return nil
	}
	return fmt.Errorf("%s could not be moved back; what was there is kept in %s", few(kept), dir)
}

// recoverTree finishes what an apply that was killed has left in a working tree:
// what it has moved in is moved back. The note says so.
func recoverTree(root string) (note string, err error) {
	beside := placeBeside(root)
	names, err := fs.Glob(os.DirFS(beside), placingPrefix+"*")
	for _, found := range names {
		said, failed := recoverPlacing(root, filepath.Join(beside, found))
		if said != "" {
			note = said
		}
		err = errors.Join(err, failed)
	}
	return note, err
}

func recoverPlacing(root, dir string) (note string, err error) {
	p, err := openPlacing(root, dir)
	if errors.Is(err, ipc.ErrHeld) || errors.Is(err, unix.ENOENT) {
		return "", nil // somebody applies right now, or has just ended
	}
	if err != nil {
		return "", err
	}
	defer p.close()
	err = p.read()
	if errors.Is(err, fs.ErrNotExist) {
		return "", os.RemoveAll(dir) // nothing was moved yet, or everything
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", dir, err)
	}
	moved, kept, err := p.undo()
	switch {
	case len(kept) > 0:
		note = fmt.Sprintf("an export --apply that was cut off is undone in %s, but for %s, which changed since; what was there is kept in %s",
			root, few(kept), dir)
	case moved > 0:
		note = "an export --apply that was cut off is undone in " + root
	}
	return note, err
}
