package qemu

import (
	"context"
	"encoding/json"
	"fmt"

	"banger.dev/banger/internal/vmm"
)

// Disks implements vmm.Meter.
func (m *machine) Disks(ctx context.Context) ([]vmm.DiskCount, error) {
	answer, err := m.qmp.query(ctx, "query-blockstats")
	if err != nil {
		return nil, err
	}
	return diskCounts(answer)
}

// diskCounts reads QEMU's answer; see BlockStats in qapi/block-core.json of its
// sources. Disks end with the first that is not in it.
func diskCounts(answer json.RawMessage) ([]vmm.DiskCount, error) {
	var all []struct {
		Node  string `json:"node-name"`
		Stats struct {
			Read    uint64 `json:"rd_bytes"`
			Written uint64 `json:"wr_bytes"`
		} `json:"stats"`
	}
	if err := json.Unmarshal(answer, &all); err != nil {
		return nil, fmt.Errorf("query-blockstats: %w", err)
	}
	byNode := map[string]vmm.DiskCount{}
	for _, one := range all {
		byNode[one.Node] = vmm.DiskCount{Read: one.Stats.Read, Written: one.Stats.Written}
	}
	var disks []vmm.DiskCount
	for i := 0; ; i++ {
		count, ok := byNode[diskNode(i)]
		if !ok {
			return disks, nil
		}
		disks = append(disks, count)
	}
}
