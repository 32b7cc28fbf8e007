package lifecycle_test

import (
	"testing"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/agent/wire"
	"banger.dev/banger/internal/monitor"
	"banger.dev/banger/internal/network"
	"banger.dev/banger/internal/vmm"
)

// What a VM takes is put together of what its monitor says, what its processes
// take and what its files take; one that does not answer has the rest, and holds
// up nobody.
func TestStatsOfVMs(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.run("a")
		w.run("mute")
		w.create("stopped")
		a := w.machine("a")
		a.mu.Lock()
		a.stats = monitor.Stats{
			Network: &network.Stats{ToGuestBytes: 7, FromGuestBytes: 5}, Guest: &wire.Stats{MemoryTotal: 100, MemoryAvailable: 60, Processes: 9},
			Disks: []vmm.DiskCount{{Read: 1}, {Read: 2, Written: 3}, {Written: 4}, {}},
		}
		a.mu.Unlock()
		mute := w.machine("mute")
		mute.mu.Lock()
		mute.mute = true
		mute.mu.Unlock()
		begun := time.Now()
		all, err := w.Stats(t.Context(), nil)
		if err != nil || len(all) != 2 || time.Since(begun) > 2*time.Second { // by the clock of the test's bubble
			t.Fatalf("%+v %v", all, err)
		}
		s := all[0]
		if *s.MemoryTotalBytes != 100 || *s.MemoryUsedBytes != 40 || *s.MemoryAvailableBytes != 60 || *s.PIDs != 9 || *s.NetReceivedBytes != 7 || *s.NetSentBytes != 5 {
			t.Errorf("%+v", s)
		}
		if *s.CPUSeconds == 0 || *s.VMMRSSBytes == 0 || *s.MonitorRSSBytes == 0 || *s.VMMRSSBytes == *s.MonitorRSSBytes || s.UptimeSeconds == nil {
			t.Errorf("%+v", s)
		}
		if len(s.Disks) != 2 || s.Disks[0].Name != "system" || *s.Disks[0].WrittenBytes != 3 || *s.Disks[0].AllocatedBytes == 0 || s.Disks[1].Name != "work" || *s.Disks[1].WrittenBytes != 4 {
			t.Errorf("%+v", s.Disks)
		}
		if s := all[1]; s.Name != "mute" || s.CPUSeconds == nil || s.MemoryTotalBytes != nil || s.NetSentBytes != nil || s.Disks[0].WrittenBytes != nil || s.Disks[0].AllocatedBytes == nil {
			t.Errorf("%+v", s)
		}
		mute.mu.Lock()
		mute.mute = false
		mute.mu.Unlock()

		all, err = w.Stats(t.Context(), []string{"stopped", "a"})
		if err != nil || len(all) != 2 || all[0].State != banger.StateStopped || all[0].CPUSeconds != nil || all[0].Disks[0].AllocatedBytes == nil {
			t.Errorf("%+v %v", all, err)
		}
		_, err = w.Stats(t.Context(), []string{"a", "nope"})
		wantKind(t, err, banger.KindNotFound)
	})
}
