package stray

import (
	"cmp"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"banger.dev/banger"
)

// device is one of the host's that is named after a VM.
type device struct {
	name   string
	owner  string // id, or its beginning
	remove string // what to type
}

// devices are the tap devices bng-<8 digits of an id> and the device-mapper
// devices banger-<id>. They may be another home's: none is removed here.
func (f *Finder) devices() []device {
	if f.Sys == "" {
		return nil
	}
	var all []device
	nets, _ := readDir(filepath.Join(f.Sys, "class/net"))
	for _, e := range nets {
		if owner, ok := strings.CutPrefix(e.Name(), "bng-"); ok {
			all = append(all, device{e.Name(), owner, "ip link delete " + e.Name()})
		}
	}
	names, _ := filepath.Glob(filepath.Join(f.Sys, "block/dm-*/dm/name"))
	for _, file := range names {
		b, err := os.ReadFile(file)
		name := strings.TrimSpace(string(b))
		if owner, ok := strings.CutPrefix(name, "banger-"); ok && err == nil {
			all = append(all, device{name, owner, "dmsetup remove " + name})
		}
	}
	return all
}

func strayDevices(devices []device, known map[string]banger.Record) []found {
	var all []found
	for _, d := range devices {
		if ownerKnown(d.owner, known) {
			continue
		}
		all = append(all, found{Stray: banger.Stray{
			Kind: banger.StrayDevice, What: d.name, Reason: "it is named after a VM, and no VM of this home is it", Next: d.remove,
		}})
	}
	return all
}

func ownerKnown(owner string, known map[string]banger.Record) bool {
	for id := range known {
		if owner != "" && strings.HasPrefix(id, owner) {
			return true
		}
	}
	return false
}

// temps are what was being made when its maker died.
func (f *Finder) temps(ctx context.Context) ([]found, error) {
	all := f.halfMadeDatabase()
	for _, c := range f.Caches {
		left, err := c.Leftovers(ctx)
		if err != nil {
			return all, err
		}
		for _, path := range left {
			all = append(all, found{
				Stray:  banger.Stray{Kind: banger.StrayTemp, What: path, Reason: "half-made, and its maker is dead", Bytes: size(path)},
				remove: c.Sweep,
			})
		}
	}
	return all, nil
}

// halfMadeDatabase is what the first start of a daemon left that was killed. The
// daemon of this home, which asks, has a whole one.
func (f *Finder) halfMadeDatabase() []found {
	var all []found
	for _, suffix := range []string{".new", ".new-wal", ".new-shm"} {
		path := f.Layout.Database() + suffix
		if _, err := os.Lstat(path); err != nil {
			continue
		}
		all = append(all, found{
			Stray:  banger.Stray{Kind: banger.StrayTemp, What: path, Reason: "a database that was never whole", Bytes: size(path)},
			remove: func(context.Context) error { return os.RemoveAll(path) },
		})
	}
	return all
}

func sortFound(all []found) {
	slices.SortFunc(all, func(a, b found) int { return cmp.Compare(a.What, b.What) })
}
