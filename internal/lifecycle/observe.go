package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"banger.dev/banger"
	"banger.dev/banger/internal/monitor"
	"banger.dev/banger/internal/network"
)

// alive is the one place that says whether a VM is alive: its monitor, or the
// VMM it left, holds the VM's lock. A lock that cannot be asked for counts as
// held: better a VM that refuses to start than two VMMs on one disk.
func (m *Manager) alive(id string) bool {
	held, err := m.Monitors.Held(m.files(id).Lock())
	if err != nil {
		m.Log.Error("cannot ask for a VM's lock", "vm", id, "err", err)
		return true
	}
	return held
}

// List is all VMs of the owner, by age.
func (m *Manager) List(ctx context.Context) ([]banger.VM, error) {
	all, err := m.Rows.List(ctx, m.Owner)
	if err != nil {
		return nil, err
	}
	vms := make([]banger.VM, 0, len(all))
	for _, rec := range all {
		if vm, ok := m.look(ctx, rec); ok {
			vms = append(vms, vm)
		}
	}
	return vms, nil
}

// Show is everything known of one VM.
func (m *Manager) Show(ctx context.Context, ref string) (banger.Detail, error) {
	rec, err := m.lookup(ctx, ref)
	if err != nil {
		return banger.Detail{}, err
	}
	vm, ok := m.look(ctx, rec)
	if !ok && rec.Spec.Ephemeral {
		return banger.Detail{}, errEnded(ref)
	}
	if !ok {
		return banger.Detail{}, banger.Errorf(banger.KindNotFound, "no VM %q: it was just deleted", ref).WithNext("banger vm list")
	}
	d := m.detail(ctx, rec)
	d.VM, d.ClockDriftMS = vm, m.clockDrift(ctx, vm)
	return d, nil
}

// look says what a VM is now, after settling it if it has ended unseen. It
// returns false when the VM is no more.
func (m *Manager) look(ctx context.Context, rec banger.Record) (banger.VM, bool) {
	if !m.settleIfFree(ctx, &rec) {
		return banger.VM{}, false
	}
	for {
		vm := m.observe(rec)
		if vm.State != banger.StateBroken {
			return vm, true
		}
		// So looks a VM that is being deleted, and one whose row was read before the
		// end of its create or delete. In this order: a row goes before its VM is no
		// longer being deleted.
		read := rec
		if m.isDeleting(rec.ID) || !m.refresh(ctx, &rec) {
			return banger.VM{}, false
		}
		if rec.Creating == read.Creating && rec.Deleting == read.Deleting {
			return vm, true
		}
	}
}

func (m *Manager) detail(ctx context.Context, rec banger.Record) banger.Detail {
	d := banger.Detail{VM: m.observe(rec), Spec: rec.Spec, Paths: m.files(rec.ID).All(), Addresses: []string{}}
	if rec.Spec.Net == banger.NetUser {
		plan := network.User()
		d.Addresses, d.MAC = []string{plan.Guest4.String(), plan.Guest6.String()}, rec.Machine.MAC
	}
	if metrics, err := monitor.ReadMetrics(m.files(rec.ID).Metrics()); err == nil {
		d.Boot = metrics.Phases
	}
	if m.alive(rec.ID) {
		d.Handles = m.processesOf(ctx, rec.ID)
	}
	return d
}

// observe says what a VM is now.
func (m *Manager) observe(rec banger.Record) banger.VM {
	vm := banger.VM{
		ID: rec.ID, Name: rec.Name, Intent: rec.Intent,
		Image: rec.Spec.Image, ImageDigest: rec.ImageDigest, Kernel: rec.KernelDigest,
		VCPUs: rec.Spec.VCPUs, MemoryBytes: rec.Spec.Memory, DiskBytes: rec.Spec.Disk, WorkBytes: rec.Spec.Work,
		Labels: rec.Spec.Labels, Created: rec.Created, LastError: rec.LastError, LastExit: rec.LastExit,
		Ports: rec.Spec.Publish,
	}
	if vm.Labels == nil {
		vm.Labels = map[string]string{}
	}
	if vm.Ports == nil {
		vm.Ports = []banger.Port{}
	}
	m.mu.Lock()
	status, known := m.seen[rec.ID]
	unlike := m.unlike[rec.ID]
	starting := m.starting[rec.ID] != nil
	m.mu.Unlock()
	switch {
	case m.alive(rec.ID):
		vm.State = banger.StateRunning
		switch {
		case !known:
			vm.Reason = "its monitor has not answered yet"
		case status.Paused:
			vm.State, vm.Reason = banger.StatePaused, status.Reason
		case !status.Ready:
			vm.Reason = "it is booting"
		default:
			vm.Reason = unlike
		}
		if known {
			vm.Started = &status.Started
		}
	case m.beingCreated(rec):
		vm.State = banger.StateCreating
	case starting:
		vm.State, vm.Reason = banger.StateStopped, "it is being started"
	default:
		vm.State, vm.Reason = banger.StateStopped, rec.LastError
		if b := m.brokenBy(rec); b.why != "" {
			vm.State, vm.Reason = banger.StateBroken, b.why+"; "+b.next
		}
	}
	return vm
}

// breakage is why a VM cannot be started.
type breakage struct {
	why   string // "" if nothing is in the way
	next  string // what to type
	mends bool   // by a reset
}

// brokenBy says why a VM that is neither alive nor being created cannot be started.
func (m *Manager) brokenBy(rec banger.Record) breakage {
	files, giveUp := m.files(rec.ID), "banger vm delete "+rec.Name
	system := exists(files.SystemDisk(m.Disks.Ext()))
	work := rec.Spec.Work == 0 || exists(files.WorkDisk(m.Disks.Ext()))
	switch {
	case rec.Deleting:
		return breakage{why: "it is being deleted, and what is left of it could not be removed yet", next: giveUp}
	case rec.Damaged != "":
		return breakage{why: "its row in the database cannot be read (" + rec.Damaged + ")", next: giveUp}
	case rec.Creating:
		return breakage{why: "its create was cut off", next: giveUp}
	case !system && !work:
		return breakage{why: "its system disk is gone, and its work disk too", next: giveUp}
	case !work:
		return breakage{why: "its work disk is gone", next: giveUp}
	case !system:
		return breakage{why: "its system disk is gone", next: fmt.Sprintf("banger vm reset %s, or %s", rec.Name, giveUp), mends: true}
	}
	return breakage{}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// processesOf is what runs a live VM: handles.json, or what the monitor says
// where that was not written in full.
func (m *Manager) processesOf(ctx context.Context, id string) *banger.Handles {
	h := m.readHandles(id)
	if h != nil && h.MonitorPID != 0 {
		m.mu.Lock()
		defer m.mu.Unlock()
		// A guest that rebooted has a new VMM under the same monitor.
		if s, known := m.seen[id]; known && s.MonitorPID == h.MonitorPID {
			h.PID, h.PIDStart = s.VMM.PID, s.VMM.Start
		}
		return h
	}
	ctx, cancel := context.WithTimeout(ctx, interruptTimeout)
	defer cancel()
	s, err := m.monitorOf(id).Status(ctx)
	if err != nil {
		return h
	}
	if h == nil {
		h = &banger.Handles{}
	}
	start, err := m.Processes.StartTime(s.MonitorPID)
	if err != nil {
		return h
	}
	h.MonitorPID, h.MonitorStart, h.PID, h.PIDStart = s.MonitorPID, start, s.VMM.PID, s.VMM.Start
	return h
}

// lastExit is how the last run ended, if its monitor lived to say.
func (m *Manager) lastExit(id string) (monitor.Exit, bool) {
	exit, err := monitor.ReadExit(m.files(id).Exit())
	return exit, err == nil
}
