package monitor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banger.dev/banger"
	"banger.dev/banger/internal/vmm"
	"banger.dev/banger/internal/vmm/vmmtest/fakeguest"
)

// withDisk gives an order a disk that is read-only, and one that can grow.
func withDisk(t *testing.T, order Order) (Order, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, make([]byte, banger.MiB), 0o600); err != nil {
		t.Fatal(err)
	}
	order.Machine.Disks = []vmm.Disk{{Path: order.Machine.Kernel, Format: "raw", ReadOnly: true}, {Path: path, Format: "raw"}}
	return order, path
}

func TestGrow(t *testing.T) {
	order, path := withDisk(t, newOrder(t, ""))
	v := spawnReady(t, order)
	if behind, err := v.Grow(v.ctx, 1, 3*banger.MiB); err != nil || behind != "" {
		t.Errorf("%q, %v", behind, err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() != int64(3*banger.MiB) {
		t.Errorf("the disk has %d bytes, %v", info.Size(), err)
	}
	if _, err := v.Grow(v.ctx, 0, 3*banger.MiB); err == nil || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("a disk that is read-only: %v", err)
	}
	if _, err := v.Grow(v.ctx, 1, 0); err == nil {
		t.Error("no size is a size")
	}
	if err := v.Pause(v.ctx); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is paused", func() bool { return v.now().Paused })
	if behind, err := v.Grow(v.ctx, 1, 4*banger.MiB); err != nil || behind != "it is paused" {
		t.Errorf("paused: %q, %v", behind, err)
	}
}

func TestGrowWithAnOlderAgent(t *testing.T) {
	order, path := withDisk(t, newOrder(t, fakeguest.Old))
	v := spawnReady(t, order)
	if behind, err := v.Grow(v.ctx, 1, 3*banger.MiB); err != nil || !strings.Contains(behind, "older") {
		t.Errorf("%q, %v", behind, err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() != int64(3*banger.MiB) {
		t.Errorf("the disk has %d bytes, %v", info.Size(), err)
	}
}
