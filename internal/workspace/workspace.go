// Package workspace copies a repository of the host's, or another directory,
// into a guest, and brings back what was changed there. It runs in the client.
// Neither side trusts the other: nothing of a repository is run here (see
// hardened), and what a guest sends is judged by its names and its content
// alone, in a repository of ours.
package workspace

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"

	"banger.dev/banger"
	"banger.dev/banger/internal/agent/wire"
	"banger.dev/banger/internal/guest"
	"banger.dev/banger/internal/ipc"
	"banger.dev/banger/internal/replace"
	"banger.dev/banger/internal/steps"
)

// VM is the guest that a workspace is in.
type VM struct {
	Name  string
	Guest guest.Files
	Dir   string // where the state of its workspaces is
	Lock  string // held while files are on their way
	// Progress is told how far a copy is; nil is fine.
	Progress banger.ProgressFunc
	Steps    steps.Runner // of what changes the host's tree
}

// Options are how a workspace is prepared.
type Options struct {
	Target   string   // in the guest; "" is the name of the directory, in the user's home
	Branch   string   // a new branch that the guest begins
	From     string   // a commit, whose files are copied instead of the working tree's
	Depth    int      // commits of history; 0 is all
	ReadOnly bool     // the guest cannot write to it
	Include  []string // pathspecs of ignored files that are copied too
	Exclude  []string // patterns that are left out of what is no repository
	Force    bool     // overwrite what was changed in the guest

	scratch string
}

// state is what is known of one workspace, in workspace.json.
type state struct {
	Place    wire.Place   `json:"place"`
	Path     string       `json:"path"`   // in the guest, absolute
	Root     string       `json:"root"`   // on the host
	Common   string       `json:"common"` // its common git directory; "" without git
	Head     string       `json:"head"`
	Format   string       `json:"format"`          // of object names
	Repos    []repository `json:"repos,omitempty"` // the outermost first; none without git
	ReadOnly bool         `json:"read_only,omitempty"`
	// Whole is false while files are on their way, or away; Sending says which. Kept
	// are the repositories whose branches and index stay as the guest has them.
	Whole   bool         `json:"whole"`
	Sending []wire.Text  `json:"sending,omitempty"`
	Kept    []wire.Text  `json:"kept,omitempty"`
	Stamps  []wire.Stamp `json:"stamps"` // of the guest's files
	Host    []hostFile   `json:"host"`   // the files that they were made of
}

// repository is one of those that were copied: the outermost, a submodule, or
// another one in the working tree.
type repository struct {
	At     string `json:"at"` // "." is the outermost
	Root   string `json:"root"`
	Common string `json:"common"`
	Head   string `json:"head"`
	Format string `json:"format"`
}

// hostFile is a file of the host's as it was copied.
type hostFile struct {
	Path  wire.Text `json:"p"`
	Mode  string    `json:"m"` // as git has it: 100644, 100755 or 120000
	ID    string    `json:"id"`
	Stamp string    `json:"s"` // changes when the file does
}

// slot is where the state of one workspace is.
type slot struct{ dir string }

func (vm VM) slot(path string) slot {
	sum := sha256.Sum256([]byte(path))
	return slot{filepath.Join(vm.Dir, hex.EncodeToString(sum[:8]))}
}

func (s slot) file() string { return filepath.Join(s.dir, "workspace.json") }

// base is a bare repository of ours: refs/banger/base is what was copied.
func (s slot) base() string { return filepath.Join(s.dir, "base.git") }

func (s slot) load() (state, error) {
	var st state
	b, err := os.ReadFile(s.file())
	if err != nil {
		return st, err
	}
	return st, json.Unmarshal(b, &st)
}

func (s slot) save(st state) error {
	b, err := json.Marshal(st)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	return replace.File(s.file(), b, 0o600)
}

// find gives the workspace at a path of the guest, or the only one.
func (vm VM) find(path string) (slot, state, error) {
	if path != "" {
		at := vm.slot(path)
		st, err := at.load()
		if errors.Is(err, os.ErrNotExist) {
			return at, st, banger.Errorf(banger.KindNotFound, "%s:%s was never prepared", vm.Name, path).
				WithNext("banger vm workspace prepare %s", vm.Name)
		}
		return at, st, err
	}
	entries, err := os.ReadDir(vm.Dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return slot{}, state{}, err
	}
	var found []state
	var at slot
	for _, e := range entries {
		candidate := slot{filepath.Join(vm.Dir, e.Name())}
		if st, err := candidate.load(); err == nil {
			found, at = append(found, st), candidate
		}
	}
	switch len(found) {
	case 0:
		return at, state{}, banger.Errorf(banger.KindNotFound, "nothing was prepared in %s", vm.Name).WithNext("banger vm workspace prepare %s", vm.Name)
	case 1:
		return at, found[0], nil
	}
	return at, state{}, banger.Errorf(banger.KindInvalid, "%s has %d workspaces: say which", vm.Name, len(found)).
		WithNext("banger vm workspace export %s %s", vm.Name, found[0].Path)
}

// hold takes the lock of a VM's workspaces. No verb of the VM's life takes it:
// a VM can be stopped and deleted at any moment.
func (vm VM) hold(ctx context.Context) (*ipc.Held, error) {
	if err := os.MkdirAll(vm.Dir, 0o700); err != nil {
		return nil, banger.Errorf(banger.KindInternal, "%w", err)
	}
	held, err := ipc.Lock(vm.Lock)
	if !errors.Is(err, ipc.ErrHeld) {
		return held, err
	}
	vm.Progress.Report(banger.Progress{Stage: "wait", Message: "another command copies a workspace of " + vm.Name})
	return ipc.LockWait(ctx, vm.Lock)
}
