package qemu

import (
	"context"
	"fmt"

	"banger.dev/banger"
)

// Grow implements vmm.Grower. QEMU would make a disk smaller too, and lose what
// was in its end: it is asked first how large it is.
func (m *machine) Grow(ctx context.Context, disk int, size banger.Bytes) error {
	node := diskNode(disk)
	var nodes []struct {
		Name     string `json:"node-name"`
		ReadOnly bool   `json:"ro"`
		Image    struct {
			Size banger.Bytes `json:"virtual-size"`
		} `json:"image"`
	}
	if err := m.qmp.do(ctx, "query-named-block-nodes", map[string]any{"flat": true}, &nodes); err != nil {
		return err
	}
	for _, n := range nodes {
		switch {
		case n.Name != node:
			continue
		case n.ReadOnly:
			return fmt.Errorf("disk %d is read-only", disk)
		case n.Image.Size >= size:
			return nil
		}
		return m.qmp.do(ctx, "block_resize", map[string]any{"node-name": node, "size": size}, nil)
	}
	return fmt.Errorf("there is no disk %d", disk)
}
