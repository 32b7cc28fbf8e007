package lifecycle

import (
	"context"
	"sync"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/monitor"
)

// statsTimeout bounds how long a VM's monitor may take to say what it counts,
// its own patience with the guest included. Each VM has it to itself.
const statsTimeout = 1500 * time.Millisecond

// Meter says what of this host is taken.
type Meter interface {
	// Process is of the process with this pid and start time.
	Process(pid int, start uint64) (cpu time.Duration, rss banger.Bytes, err error)
	// Allocated is what a file takes on its disk.
	Allocated(path string) (banger.Bytes, error)
}

// Stats is what the VMs that refs name take at this moment; without refs, those
// that are alive. A VM that does not answer holds up no other, and one that is
// deleted meanwhile is left out.
func (m *Manager) Stats(ctx context.Context, refs []string) ([]banger.Stats, error) {
	recs, err := m.named(ctx, refs)
	if err != nil {
		return nil, err
	}
	all := make([]*banger.Stats, len(recs))
	var asked sync.WaitGroup
	for i, rec := range recs {
		asked.Go(func() {
			if vm, there := m.look(ctx, rec); there {
				all[i] = m.stats(ctx, rec, vm)
			}
		})
	}
	asked.Wait()
	var there []banger.Stats
	for _, s := range all {
		if s != nil {
			there = append(there, *s)
		}
	}
	return there, ctx.Err()
}

// named are the VMs that refs name, or those alive.
func (m *Manager) named(ctx context.Context, refs []string) ([]banger.Record, error) {
	var recs []banger.Record
	if len(refs) == 0 {
		all, err := m.Rows.List(ctx, m.Owner)
		for _, rec := range all {
			if m.alive(rec.ID) {
				recs = append(recs, rec)
			}
		}
		return recs, err
	}
	for _, ref := range refs {
		rec, err := m.lookup(ctx, ref)
		if err != nil {
			return nil, err
		}
		recs = append(recs, rec)
	}
	return recs, nil
}

// stats is what a VM takes that was looked at.
func (m *Manager) stats(ctx context.Context, rec banger.Record, vm banger.VM) *banger.Stats {
	s := &banger.Stats{ID: vm.ID, Name: vm.Name, State: vm.State, Time: time.Now().UTC(), Disks: m.diskStats(rec)}
	if vm.State != banger.StateRunning && vm.State != banger.StatePaused {
		return s
	}
	m.addProcesses(ctx, s)
	if vm.Started != nil {
		up := s.Time.Sub(*vm.Started).Seconds()
		s.UptimeSeconds = &up
	}
	asking, cancel := context.WithTimeout(ctx, statsTimeout)
	defer cancel()
	if told, err := m.monitorOf(rec.ID).Stats(asking); err == nil {
		addTold(s, told)
	}
	return s
}

// addProcesses adds what the VMM and the monitor take.
func (m *Manager) addProcesses(ctx context.Context, s *banger.Stats) {
	h := m.processesOf(ctx, s.ID)
	if h == nil {
		return
	}
	if cpu, rss, err := m.Meter.Process(h.PID, h.PIDStart); err == nil {
		seconds := cpu.Seconds()
		s.CPUSeconds, s.VMMRSSBytes = &seconds, &rss
	}
	if _, rss, err := m.Meter.Process(h.MonitorPID, h.MonitorStart); err == nil {
		s.MonitorRSSBytes = &rss
	}
}

// diskStats are the disks that a VM may write to, with what they take of the host's.
func (m *Manager) diskStats(rec banger.Record) []banger.DiskStats {
	files, ext := m.files(rec.ID), m.Disks.Ext()
	disks := []banger.DiskStats{{Name: "system", AllocatedBytes: m.allocated(files.SystemDisk(ext))}}
	if rec.Spec.Work != 0 {
		disks = append(disks, banger.DiskStats{Name: "work", AllocatedBytes: m.allocated(files.WorkDisk(ext))})
	}
	return disks
}

func (m *Manager) allocated(path string) *banger.Bytes {
	n, err := m.Meter.Allocated(path)
	if err != nil {
		return nil
	}
	return &n
}

// firstDisk is where among a machine's disks those of diskStats begin: the first
// is the config disk.
const firstDisk = 1

// addTold adds what the monitor says.
func addTold(s *banger.Stats, told monitor.Stats) {
	if n := told.Network; n != nil {
		s.NetReceivedBytes, s.NetSentBytes = &n.ToGuestBytes, &n.FromGuestBytes
	}
	for i := range s.Disks {
		if at := firstDisk + i; at < len(told.Disks) {
			s.Disks[i].ReadBytes, s.Disks[i].WrittenBytes = &told.Disks[at].Read, &told.Disks[at].Written
		}
	}
	if g := told.Guest; g != nil {
		total, available := banger.Bytes(g.MemoryTotal), banger.Bytes(g.MemoryAvailable)
		used := total - available
		s.MemoryTotalBytes, s.MemoryAvailableBytes, s.MemoryUsedBytes, s.PIDs = &total, &available, &used, &g.Processes
	}
}
