package stray

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"banger.dev/banger"
	"banger.dev/banger/internal/monitor"
	"banger.dev/banger/internal/proc"
)

// process is one that holds the lock of the VM with this id.
type process struct {
	id      string
	pid     int
	start   uint64
	command string
}

// processes are those that hold a VM's lock, found by the files they have open.
func (f *Finder) processes() ([]process, error) {
	open, err := proc.UsersBelow(f.Layout.VMs())
	var holders []process
	for _, u := range open {
		id := filepath.Base(filepath.Dir(u.File))
		if u.File == f.Layout.VM(id).Lock() {
			holders = append(holders, process{id, u.PID, u.Start, u.Command})
		}
	}
	return holders, err
}

func (f *Finder) strayProcesses(holders []process, known map[string]banger.Record) []found {
	var all []found
	for _, p := range holders {
		if _, ok := known[p.id]; ok || !proc.Alive(p.pid, p.start) {
			continue
		}
		all = append(all, found{
			Stray: banger.Stray{
				Kind: banger.StrayProcess, What: fmt.Sprintf("process %d (%s)", p.pid, p.command),
				Reason: fmt.Sprintf("it holds the lock of the VM %s, which no row has", p.id),
			},
			remove: func(ctx context.Context) error { return end(ctx, f.Layout.VM(p.id), p) },
		})
	}
	return all
}

func (f *Finder) straySockets(ids []string, known map[string]banger.Record) []found {
	var all []found
	for _, id := range there(ids, join(f.Layout.RunVMs())) {
		if _, ok := known[id]; ok {
			continue
		}
		vm := f.Layout.VM(id)
		all = append(all, found{
			Stray:  banger.Stray{Kind: banger.StraySockets, What: vm.Run, Reason: "no row has this VM", Bytes: size(vm.Run)},
			remove: func(context.Context) error { return f.removeDead(id, vm.Run) },
		})
	}
	return all
}

// strayDirectories are the directories of VMs without a row. The row is what is
// lost when a database is damaged, or an older copy of it put back; the disks
// must not be lost with it. So one that holds disks is removed only with proof
// that its VM was deleted.
func (f *Finder) strayDirectories(ctx context.Context, ids []string, known map[string]banger.Record) ([]found, error) {
	var all []found
	for _, id := range there(ids, join(f.Layout.VMs())) {
		if _, ok := known[id]; ok {
			continue
		}
		last, err := f.Rows.LastEvent(ctx, f.Owner, id)
		if err != nil {
			return nil, err
		}
		dir := f.Layout.VM(id).Dir
		s := found{Stray: banger.Stray{Kind: banger.StrayDirectory, What: dir, Bytes: size(dir)}}
		switch {
		case last.Type == banger.EventVMDeleted:
			s.Reason = "its VM was deleted"
		case !hasDisks(dir):
			s.Reason = "no row has this VM, and it holds no disks"
		default:
			s.Reason = "no row has this VM, which a lost or an older database may have had; it holds disks, so it is kept"
			s.Next = "rm -r " + dir
			all = append(all, s)
			continue
		}
		s.remove = func(context.Context) error { return f.removeDead(id, dir) }
		all = append(all, s)
	}
	return all, nil
}

// hasDisks says whether dir holds what a user could miss.
func hasDisks(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err != nil || slices.ContainsFunc(entries, func(e os.DirEntry) bool {
		return strings.HasPrefix(e.Name(), "system.") || strings.HasPrefix(e.Name(), "work.")
	})
}

// removeDead removes a directory of a VM unless somebody holds the VM's lock.
func (f *Finder) removeDead(id, dir string) error {
	held, err := monitor.Held(f.Layout.VM(id).Lock())
	if err != nil {
		return err
	}
	if held {
		return fmt.Errorf("a process still holds %s", f.Layout.VM(id).Lock())
	}
	return os.RemoveAll(dir)
}

// links are the links to VMs' ssh keys, by name, and what they say.
func (f *Finder) links() (map[string]string, error) {
	entries, err := readDir(f.Layout.SSH())
	links := map[string]string{}
	for _, e := range entries {
		if target, err := os.Readlink(filepath.Join(f.Layout.SSH(), e.Name())); err == nil {
			links[e.Name()] = target
		}
	}
	return links, err
}

// strayLinks are those that lead to no VM with a row.
func (f *Finder) strayLinks(links map[string]string, known map[string]banger.Record) []found {
	var all []found
	for name, target := range links {
		id := filepath.Base(filepath.Dir(target))
		rec, ok := known[id]
		if !strings.HasPrefix(name, ".") && (!strings.HasSuffix(name, ".vm") || ok && rec.Name+".vm" == name) {
			continue
		}
		if strings.HasPrefix(name, ".") && !banger.IsID(name[1:]) {
			continue
		}
		path := filepath.Join(f.Layout.SSH(), name)
		all = append(all, found{
			Stray: banger.Stray{Kind: banger.StrayLink, What: path, Reason: "it leads to no VM of that name"},
			remove: func(context.Context) error {
				if now, err := os.Readlink(path); err != nil || now != target {
					return nil // another VM has got the name meanwhile
				}
				return os.Remove(path)
			},
		})
	}
	sortFound(all)
	return all
}
