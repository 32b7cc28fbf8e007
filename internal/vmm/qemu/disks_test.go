package qemu

import (
	"encoding/json"
	"slices"
	"testing"

	"banger.dev/banger/internal/vmm"
)

// As QEMU 7.2 says it, shortened: the counts of a disk are not those of the file
// or the base below it.
const blockStats = `[
	{"device": "", "node-name": "disk1", "qdev": "/machine/peripheral/disk1-dev/virtio-backend", "stats": {"wr_bytes": 7, "rd_bytes": 9, "timed_stats": []},
		"backing": {"node-name": "disk1-base", "stats": {"rd_bytes": 99}}, "parent": {"node-name": "#block3", "stats": {"wr_bytes": 99}}},
	{"device": "", "node-name": "disk0", "stats": {"wr_bytes": 0, "rd_bytes": 1}},
	{"device": "", "node-name": "disk3", "stats": {"wr_bytes": 5, "rd_bytes": 5}}
]`

func TestDiskCounts(t *testing.T) {
	got, err := diskCounts(json.RawMessage(blockStats))
	if want := []vmm.DiskCount{{Read: 1}, {Read: 9, Written: 7}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%+v %v, want %+v", got, err, want)
	}
	for _, answer := range []string{`{}`, `[{"stats": {"wr_bytes": -1}}]`, `7`} {
		if got, err := diskCounts(json.RawMessage(answer)); err == nil {
			t.Errorf("%s: %+v", answer, got)
		}
	}
}
