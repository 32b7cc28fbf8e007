package cli

import (
	"encoding/json"
	"slices"
	"testing"

	"banger.dev/banger"
)

func TestDf(t *testing.T) {
	w := newWorld(t).withDaemon()
	w.usage = banger.DiskUsage{Total: 7 * banger.MiB, Reclaimable: banger.MiB, Entries: []banger.DiskEntry{
		{Kind: "vm", Name: "web", Path: "/s/vms/1", Bytes: 4 * banger.MiB, Parts: map[string]banger.Bytes{"system": 3 * banger.MiB, "work": 0, "logs": banger.MiB}},
		{Kind: "image", Name: "debian", Path: "/c/1", Bytes: 2 * banger.MiB, NeededBy: 2},
		{Kind: "image", Name: "\x1b", Path: "/c/2", Bytes: banger.MiB, Reclaimable: banger.MiB},
	}}
	w.run("system", "df").want(t, 0, ""+
		"KIND   COUNT  NEEDED  SIZE  RECLAIMABLE\n"+
		"vm     1      0       4MiB  0B\n"+
		"image  2      1       3MiB  1MiB\n"+
		"total                 7MiB  1MiB\n", "")
	w.run("system", "df", "-v").want(t, 0, ""+
		"KIND   NAME      SIZE    RECLAIMABLE  NEEDED BY  PATH\n"+
		"vm     web       4MiB    0B           -          /s/vms/1\n"+
		"         system    3MiB\n"+
		"         logs      1MiB\n"+
		"image  debian    2MiB    0B           2 VMs      /c/1\n"+
		"image  \\x1b      1MiB    1MiB         -          /c/2\n"+
		"total            7MiB    1MiB\n", "")
	var u banger.DiskUsage
	if got := w.run("system", "df", "-o", "json"); json.Unmarshal([]byte(got.stdout), &u) != nil || u.Total != w.usage.Total || len(u.Entries) != 3 {
		t.Errorf("%+v", got)
	}
}

func TestSystemPrune(t *testing.T) {
	w := newWorld(t).withDaemon()
	w.run("system", "prune").want(t, 0, "0B freed\n", "")
	w.pruned = banger.Pruned{Freed: banger.MiB, Entries: []banger.PrunedEntry{
		{DiskEntry: banger.DiskEntry{Kind: "image", Name: "debian", Bytes: banger.MiB}, Removed: true},
	}}
	w.run("system", "prune").want(t, 2, "",
		"banger: image debian (1MiB)\nbanger: system prune asks first, and here is nobody to ask; try: banger system prune --force\n")
	w.run("system", "prune", "--all", "--force").want(t, 0, "image debian: removed (1MiB)\n1MiB freed\n", "")
	if asked := w.questions(); !slices.Equal(asked, []string{"prune?all=false&dry=true", "prune?all=false&dry=true", "prune?all=true&dry=false"}) {
		t.Errorf("asked %q", asked)
	}
	w.pruned.Entries[0].Removed, w.pruned.Entries[0].Error, w.pruned.Freed = false, "1 VMs need it", 0
	w.run("system", "prune", "-f").want(t, 1, "0B freed\n", "banger: image debian is still there: 1 VMs need it\n")
	var p banger.Pruned
	if got := w.run("system", "prune", "-f", "-o", "json"); json.Unmarshal([]byte(got.stdout), &p) != nil || len(p.Entries) != 1 || got.code != 1 {
		t.Errorf("%+v", got)
	}
}
