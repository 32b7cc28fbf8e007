// Package stray finds what is left over of a home of banger's: whatever belongs
// to no VM, of files, processes and devices. It removes what can be removed
// without a doubt. Whether a VM is alive, and what becomes of one that has a
// row, is not decided here.
package stray

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"banger.dev/banger"
	"banger.dev/banger/internal/du"
	"banger.dev/banger/internal/paths"
)

// Rows are what the database knows of VMs.
type Rows interface {
	// All is every VM of every owner. After an error nothing is a stray.
	All(ctx context.Context) ([]banger.Record, error)
	// LastEvent is the newest event of owner's VM with this id, or the zero event.
	LastEvent(ctx context.Context, owner int, id string) (banger.Event, error)
}

// Cache is a part of the cache in which things are made.
type Cache interface {
	// Leftovers are the half-made files whose maker is dead.
	Leftovers(ctx context.Context) ([]string, error)
	// Sweep removes them.
	Sweep(ctx context.Context) error
}

// Finder looks through one home. All of it is required but Caches and Sys.
type Finder struct {
	Owner  int // uid whose home it is
	Layout paths.Layout
	Rows   Rows
	Caches []Cache
	Sys    string // where sysfs is; "" leaves devices out, which are root's
}

// found is a stray and how to remove it; nil if that is not for us to do.
type found struct {
	banger.Stray
	remove func(ctx context.Context) error
}

// Find is every stray of the home: processes first, then what they may use.
func (f *Finder) Find(ctx context.Context) ([]banger.Stray, error) {
	all, err := f.look(ctx)
	return plain(all), err
}

// Fix removes the strays that can be removed, and says of each how it went. It
// may be repeated, and be killed at any point.
func (f *Finder) Fix(ctx context.Context) ([]banger.Stray, error) {
	all, err := f.look(ctx)
	for i := range all {
		if all[i].remove == nil {
			continue
		}
		if err := all[i].remove(ctx); err != nil {
			all[i].Error = err.Error()
			continue
		}
		all[i].Fixed = true
	}
	return plain(all), err
}

func plain(all []found) []banger.Stray {
	strays := make([]banger.Stray, len(all)) // [] and never null
	for i, s := range all {
		s.Fixable = s.remove != nil
		strays[i] = s.Stray
	}
	return strays
}

// look finds all strays. What is on the host is listed before the rows are
// read: a VM's row is there before all else of it and goes last, so that what
// is listed and has no row is a stray, or has just been deleted.
func (f *Finder) look(ctx context.Context) ([]found, error) {
	processes, err := f.processes()
	if err != nil {
		return nil, err
	}
	sockets, err := vmDirs(f.Layout.RunVMs())
	if err != nil {
		return nil, err
	}
	dirs, err := vmDirs(f.Layout.VMs())
	if err != nil {
		return nil, err
	}
	links, err := f.links()
	if err != nil {
		return nil, err
	}
	devices := f.devices()
	rows, err := f.Rows.All(ctx)
	if err != nil {
		return nil, err
	}
	known := map[string]banger.Record{}
	for _, r := range rows {
		known[r.ID] = r
	}
	all := f.strayProcesses(processes, known)
	all = append(all, f.straySockets(sockets, known)...)
	more, err := f.strayDirectories(ctx, dirs, known)
	if err != nil {
		return nil, err
	}
	all = append(append(append(all, more...), f.strayLinks(links, known)...), strayDevices(devices, known)...)
	temps, err := f.temps(ctx)
	return append(all, temps...), err
}

// vmDirs are the entries of dir that are named as VMs are.
func vmDirs(dir string) ([]string, error) {
	entries, err := readDir(dir)
	var ids []string
	for _, e := range entries {
		if banger.IsID(e.Name()) {
			ids = append(ids, e.Name())
		}
	}
	return ids, err
}

// readDir is os.ReadDir for a directory that need not be there.
func readDir(dir string) ([]fs.DirEntry, error) {
	entries, err := os.ReadDir(dir)
	if os.IsNotExist(err) {
		return nil, nil
	}
	return entries, err
}

func size(path string) banger.Bytes {
	n, _ := new(du.Counter).Tree(path) // of what can be read
	return n
}

// there leaves out what has gone since it was listed.
func there(ids []string, path func(id string) string) []string {
	return slices.DeleteFunc(ids, func(id string) bool {
		_, err := os.Lstat(path(id))
		return os.IsNotExist(err)
	})
}

func join(dir string) func(string) string {
	return func(name string) string { return filepath.Join(dir, name) }
}
