package space_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"banger.dev/banger"
	"banger.dev/banger/internal/paths"
	"banger.dev/banger/internal/space"
)

const id = "aaaaaaaaaaaaaaaa"

type vms struct{}

func (vms) List(context.Context) ([]banger.VM, error) { return []banger.VM{{ID: id, Name: "web"}}, nil }

// cache has these entries, and one half-made file.
type cache struct {
	entries []banger.CacheEntry
	half    string
	needed  string // an entry that has come to be needed since it was listed
}

func (c *cache) Entries(context.Context) ([]banger.CacheEntry, error) { return c.entries, nil }

func (c *cache) RemoveEntry(_ context.Context, e banger.CacheEntry) error {
	if e.Name == c.needed {
		return errors.New("1 VMs need it")
	}
	return os.RemoveAll(e.Path)
}

func (c *cache) Leftovers(context.Context) ([]string, error) {
	if _, err := os.Stat(c.half); err != nil {
		return nil, nil
	}
	return []string{c.half}, nil
}

func (c *cache) Sweep(context.Context) error { return os.RemoveAll(c.half) }

func write(t *testing.T, path string, size int) string {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(strings.Repeat("x", size)), 0o600)); err != nil {
		t.Fatal(err)
	}
	return path
}

// home has a VM, a database and a cache in which two kernels share a file.
func home(t *testing.T) (space.Home, *cache) {
	t.Helper()
	dir := t.TempDir()
	l := paths.Layout{State: dir + "/state", Cache: dir + "/cache", Config: dir + "/config", Run: dir + "/run"}
	vm := l.VM(id)
	write(t, vm.SystemDisk("qcow2"), 100_000)
	write(t, vm.WorkDisk("qcow2"), 50_000)
	write(t, vm.Console(0), 9_000)
	write(t, vm.ConfigDisk(), 5_000)
	write(t, l.Database(), 20_000)
	write(t, l.Database()+"-wal", 20_000)
	write(t, l.DaemonLog(), 100)
	write(t, l.ConfigFile(), 100)
	write(t, filepath.Join(l.Cache, "locks", "a"), 0)
	kernel := func(name string) string { return filepath.Join(l.Kernels(), name) }
	shared := write(t, kernel("old")+"/vmlinux", 300_000)
	write(t, kernel("old")+"/initramfs", 70_000)
	for _, name := range []string{"used", "current"} {
		write(t, kernel(name)+"/initramfs", 70_000)
		if err := os.Link(shared, kernel(name)+"/vmlinux"); err != nil {
			t.Fatal(err)
		}
	}
	c := &cache{half: write(t, filepath.Join(l.Images(), "tmp", "half"), 40_000), entries: []banger.CacheEntry{
		{Kind: banger.CacheKernel, Name: "old", Path: kernel("old")},
		{Kind: banger.CacheKernel, Name: "current", Path: kernel("current"), Current: true},
		{Kind: banger.CacheKernel, Name: "used", Path: kernel("used"), Holders: 2},
		{Kind: banger.CachePackages, Name: "apt", Path: filepath.Join(l.Apt(), "absent")},
	}}
	return space.Home{Layout: l, VMs: vms{}, Caches: []space.Cache{c}}, c
}

func usage(t *testing.T, h space.Home) banger.DiskUsage {
	t.Helper()
	u, err := h.Usage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestUsageAddsUpToDu(t *testing.T) {
	h, _ := home(t)
	u := usage(t, h)
	out, err := exec.Command("du", "-sc", "--block-size=1", h.Layout.State, h.Layout.Cache, h.Layout.Config).Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	want, err := strconv.ParseInt(strings.Fields(lines[len(lines)-1])[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	var sum banger.Bytes
	for _, e := range u.Entries {
		sum += e.Bytes
		var parts banger.Bytes
		for _, n := range e.Parts {
			parts += n
		}
		if e.Parts != nil && (parts != e.Bytes || e.Parts["system"] < 100_000 || e.Parts["work"] < 50_000 || e.Parts["logs"] < 9_000) {
			t.Errorf("the parts of %s: %+v of %d", e.Name, e.Parts, e.Bytes)
		}
	}
	if sum != banger.Bytes(want) || u.Total != sum {
		t.Errorf("the entries are %d bytes, the total %d, du says %d", sum, u.Total, want)
	}
}

// What two kernels share is the one's that is needed: the other's removal would
// not give it back.
func TestSharedFilesAreNotReclaimable(t *testing.T) {
	h, _ := home(t)
	sizes := map[string]banger.DiskEntry{}
	for _, e := range usage(t, h).Entries {
		sizes[e.Name] = e
	}
	for name, c := range map[string]struct {
		whole       bool
		reclaimable bool
	}{"used": {true, false}, "current": {false, true}, "old": {false, true}, "half": {false, true}} {
		e := sizes[name]
		if (e.Bytes > 300_000) != c.whole || (e.Reclaimable == e.Bytes) != c.reclaimable {
			t.Errorf("%+v", e)
		}
	}
}

// pruned is what a prune says, in a line for each.
func pruned(t *testing.T, h space.Home, all, dry bool) ([]string, banger.Bytes) {
	t.Helper()
	p, err := h.Prune(t.Context(), "", all, dry)
	if err != nil {
		t.Fatal(err)
	}
	lines := []string{}
	for _, e := range p.Entries {
		lines = append(lines, fmt.Sprint(e.Name, " ", e.Removed))
	}
	slices.Sort(lines)
	return lines, p.Freed
}

func TestPruneRemovesWhatNothingNeeds(t *testing.T) {
	h, c := home(t)
	before := usage(t, h).Total
	if got, freed := pruned(t, h, true, true); !slices.Equal(got, []string{"current false", "half false", "old false"}) || freed != 0 {
		t.Errorf("dry: %q, %d", got, freed)
	}
	if after := usage(t, h).Total; after != before {
		t.Errorf("dry: %d bytes are gone", before-after)
	}
	for _, kind := range []string{"image", "kernel"} {
		if p, err := h.Prune(t.Context(), kind, false, true); err != nil || len(p.Entries) != map[string]int{"kernel": 1}[kind] {
			t.Errorf("%s: %+v, %v", kind, p, err)
		}
	}
	got, freed := pruned(t, h, false, false)
	if !slices.Equal(got, []string{"half true", "old true"}) {
		t.Errorf("%q", got)
	}
	after := usage(t, h).Total
	if before-after != freed {
		t.Errorf("%d bytes are freed, %d gone", freed, before-after)
	}
	c.needed = "current"
	if got, freed := pruned(t, h, true, false); !slices.Equal(got, []string{"current false"}) || freed != 0 {
		t.Errorf("needed meanwhile: %q, %d", got, freed)
	}
	c.needed = ""
	if got, _ := pruned(t, h, true, false); !slices.Equal(got, []string{"current true"}) {
		t.Errorf("all: %q", got)
	}
	if got, _ := pruned(t, h, true, false); len(got) != 0 {
		t.Errorf("once more: %q", got)
	}
	if _, err := os.Stat(h.Layout.VM(id).SystemDisk("qcow2")); err != nil {
		t.Error(err)
	}
}
