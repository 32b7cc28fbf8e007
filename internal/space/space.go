// Package space says what a home and its cache take on disk, and removes what
// nothing needs. What an entry of the cache is, and who needs it, the cache's
// own packages know; VMs are never removed here.
package space

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"banger.dev/banger"
	"banger.dev/banger/internal/du"
	"banger.dev/banger/internal/paths"
)

// VMs are those of this home.
type VMs interface {
	List(ctx context.Context) ([]banger.VM, error)
}

// Cache is a part of the cache.
type Cache interface {
	Entries(ctx context.Context) ([]banger.CacheEntry, error)
	// RemoveEntry removes one of Entries; it is KindConflict if that has come to
	// be needed meanwhile.
	RemoveEntry(ctx context.Context, e banger.CacheEntry) error
	// Leftovers are half-made files whose maker is dead, Sweep removes them.
	Leftovers(ctx context.Context) ([]string, error)
	Sweep(ctx context.Context) error
}

// Home is a home and its cache.
type Home struct {
	Layout paths.Layout
	VMs    VMs
	Caches []Cache
}

// item is an entry with what removes it; nil where only its VM's delete does.
type item struct {
	banger.DiskEntry
	current bool // see banger.CacheEntry
	remove  func(ctx context.Context) error
}

// needless says whether nobody needs it: prune with all removes it.
func (i item) needless() bool { return i.remove != nil && i.NeededBy == 0 }

// Usage is what is there, in the order in which people read it.
func (h Home) Usage(ctx context.Context) (banger.DiskUsage, error) {
	items, err := h.measure(ctx)
	usage := banger.DiskUsage{Entries: []banger.DiskEntry{}}
	for _, i := range items {
		usage.Total += i.Bytes
		usage.Reclaimable += i.Reclaimable
		usage.Entries = append(usage.Entries, i.DiskEntry)
	}
	return usage, err
}

// measure counts everything below the home's directories once. Of what several
// share, such as the files of two kernels, those who are needed are counted
// first: the rest of the others is what their removal gives back.
func (h Home) measure(ctx context.Context) ([]item, error) {
	var counter du.Counter
	vms, err := h.vms(ctx, &counter)
	if err != nil {
		return nil, err
	}
	items := append(vms, h.database(&counter))
	cached, err := h.cached(ctx)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(cached, func(a, b item) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), strings.Compare(a.Kind, b.Kind), strings.Compare(a.Name, b.Name))
	})
	for i := range cached {
		cached[i].Bytes = count(&counter, cached[i].Path)
		if cached[i].needless() {
			cached[i].Reclaimable = cached[i].Bytes
		}
	}
	items = append(items, cached...)
	for _, root := range []string{h.Layout.State, h.Layout.Cache, h.Layout.Config, h.Layout.Run} {
		if rest := count(&counter, root); rest > 0 {
			items = append(items, item{DiskEntry: banger.DiskEntry{Kind: banger.UsageOther, Name: "other", Path: root, Bytes: rest}})
		}
	}
	return items, ctx.Err()
}

// rank is the order in which entries of the cache are counted. The lists of an
// apt root hold its packages.
func rank(i item) int {
	switch {
	case i.Kind == string(banger.CacheLists):
		return 3
	case !i.needless():
		return 0
	case i.current:
		return 1
	}
	return 2
}

// count leaves out what cannot be read, as du does.
func count(c *du.Counter, path string) banger.Bytes {
	n, _ := c.Tree(path)
	return n
}

// vms are the directories of VMs.
func (h Home) vms(ctx context.Context, counter *du.Counter) ([]item, error) {
	list, err := h.VMs.List(ctx)
	var items []item
	for _, vm := range list {
		dir := h.Layout.VM(vm.ID).Dir
		i := item{DiskEntry: banger.DiskEntry{Kind: banger.UsageVM, Name: vm.Name, Path: dir, Parts: map[string]banger.Bytes{"system": 0, "work": 0, "logs": 0}}}
		for part, pattern := range map[string]string{"system": "system.*", "work": "work.*", "logs": "*.log"} {
			files, err := fs.Glob(os.DirFS(dir), pattern)
			if err != nil {
				return nil, err
			}
			for _, file := range files {
				i.Parts[part] += count(counter, filepath.Join(dir, file))
			}
			i.Bytes += i.Parts[part]
		}
		i.Parts["other"] = count(counter, dir)
		i.Bytes += i.Parts["other"]
		items = append(items, i)
	}
	return items, err
}

func (h Home) database(counter *du.Counter) item {
	i := item{DiskEntry: banger.DiskEntry{Kind: banger.UsageDatabase, Name: "database", Path: h.Layout.Database()}}
	for _, suffix := range []string{"", "-wal", "-shm"} {
		i.Bytes += count(counter, i.Path+suffix)
	}
	return i
}

// cached is what is in the cache, and what was half-made there.
func (h Home) cached(ctx context.Context) ([]item, error) {
	var items []item
	var errs []error
	for _, c := range h.Caches {
		entries, err := c.Entries(ctx)
		errs = append(errs, err)
		for _, e := range entries {
			items = append(items, item{
				DiskEntry: banger.DiskEntry{Kind: string(e.Kind), Name: e.Name, Path: e.Path, NeededBy: e.Holders}, current: e.Current,
				remove: func(ctx context.Context) error { return c.RemoveEntry(ctx, e) },
			})
		}
		left, err := c.Leftovers(ctx)
		errs = append(errs, err)
		for _, path := range left {
			items = append(items, item{
				DiskEntry: banger.DiskEntry{Kind: banger.UsageTemp, Name: filepath.Base(path), Path: path}, remove: c.Sweep,
			})
		}
	}
	return slices.DeleteFunc(items, absent), errors.Join(errs...)
}

// absent says whether there is no such file, such as the packages of an apt root
// that has been pruned.
func absent(i item) bool {
	_, err := os.Lstat(i.Path)
	return errors.Is(err, os.ErrNotExist)
}
