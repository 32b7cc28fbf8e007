package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/disk"
	"banger.dev/banger/internal/monitor"
	"banger.dev/banger/internal/request"
	"banger.dev/banger/internal/steps"
)

// Start boots a VM and returns when a command can be run in it. A boot that
// fails leaves the VM stopped. The end of ctx during the boot kills it. One that
// is running already is waited for, should it still be booting.
func (m *Manager) Start(ctx context.Context, ref string, opts StartOptions, report banger.ProgressFunc) (banger.Detail, Outcome, error) {
	rec, out, err := m.start(ctx, ref, opts, report)
	if err != nil {
		return banger.Detail{}, Outcome{}, err
	}
	if !out.Changed {
		if err := m.awaitOther(ctx, rec, opts); err != nil {
			return banger.Detail{}, Outcome{}, err
		}
	}
	if err := m.awaitInit(ctx, rec, opts); err != nil {
		return banger.Detail{}, Outcome{}, err
	}
	return m.detail(ctx, rec), out, nil
}

// start does the part of Start for which the VM's lock is held.
func (m *Manager) start(ctx context.Context, ref string, opts StartOptions, report banger.ProgressFunc) (banger.Record, Outcome, error) {
	rec, unlock, err := m.locked(ctx, ref)
	if err != nil {
		return rec, Outcome{}, err
	}
	defer unlock()
	if m.alive(rec.ID) {
		m.isEnding(ctx, rec.ID) // then it is not alive any more
	}
	if got, err := m.judge(verbStart, rec); got != act {
		return rec, Outcome{}, err
	}
	if _, remains := m.settle(ctx, &rec); !remains {
		return rec, Outcome{}, errEnded(ref)
	}
	booting, booted, err := m.admit(ctx, rec, opts.Overcommit)
	if err != nil {
		return rec, Outcome{}, err
	}
	defer booted()
	if err := m.boot(booting, &rec, opts, report); err != nil {
		if rec.Spec.Ephemeral {
			err = errors.Join(err, m.discard(ctx, rec))
		}
		return rec, Outcome{}, err
	}
	return rec, Outcome{Changed: true}, nil
}

// isEnding says whether a VM that was found alive is one whose monitor has
// closed its socket and only has to free the lock, which it then has done.
func (m *Manager) isEnding(ctx context.Context, id string) bool {
	asking, cancel := context.WithTimeout(ctx, interruptTimeout)
	defer cancel()
	_, err := m.monitorOf(id).Status(asking)
	return err != nil && asking.Err() == nil && m.awaitFree(ctx, id, exitTimeout) == nil
}

// errEnded is the answer for an ephemeral VM that is found ended.
func errEnded(ref string) error {
	return banger.Errorf(banger.KindNotFound, "no VM %q: it has just ended and, being made with --rm, was deleted", ref).WithNext("banger vm list")
}

// admit refuses a start for which this host lacks the VMM or, unless overcommit
// is given here or for the VM, the memory. Else the memory is spoken for, and
// other verbs can cancel the boot through the context, until done is called:
// when the VM is alive, or will not be.
func (m *Manager) admit(ctx context.Context, rec banger.Record, overcommit bool) (booting context.Context, done func(), err error) {
	m.admission.Lock()
	defer m.admission.Unlock()
	if err := m.fits(rec, overcommit); err != nil {
		return nil, nil, err
	}
	booting, done = m.begin(ctx, m.starting, rec.ID)
	m.mu.Lock()
	m.memory[rec.ID] = rec.Spec.Memory
	m.mu.Unlock()
	return booting, done, nil
}

// admissible says whether admit would refuse a start now.
func (m *Manager) admissible(rec banger.Record, overcommit bool) error {
	m.admission.Lock()
	defer m.admission.Unlock()
	return m.fits(rec, overcommit)
}

// boot starts a VM that is not alive; the caller holds its lock.
func (m *Manager) boot(ctx context.Context, rec *banger.Record, opts StartOptions, report banger.ProgressFunc) error {
	if opts.Timeout == 0 {
		opts.Timeout = DefaultStartTimeout
	}
	report.Report(banger.Progress{Stage: "boot", Message: "boot " + rec.Name})
	boot := bootPlan{m: m, platform: m.Platform(), opts: opts}
	err := m.Steps.Run(ctx, rec.ID,
		steps.Step{Name: "start.intent", Do: func(ctx context.Context) error {
			if rec.Intent == banger.IntentRunning && rec.LastError == "" {
				return nil // the create has written it
			}
			updated, err := m.Rows.Update(ctx, rec.ID, func(r *banger.Record) error {
				r.Intent, r.LastError = banger.IntentRunning, ""
				return nil
			})
			if err == nil {
				*rec = updated
			}
			return err
		}},
		steps.Step{Name: "start.plan", Do: func(ctx context.Context) error { return boot.prepare(ctx, *rec) }},
		steps.Step{Name: "start.handles", Do: func(context.Context) error { return boot.recordIntended(*rec) }},
		steps.Step{Name: "start.monitor", Do: func(ctx context.Context) error { return boot.spawn(ctx, *rec) }},
		steps.Step{Name: "start.ready", Do: func(ctx context.Context) error { return boot.awaitReady(ctx, *rec) }},
	)
	if err != nil {
		return m.failedStart(ctx, rec, err)
	}
	m.tellStarted(ctx, *rec)
	m.watch(*rec)
	return nil
}

// failedStart records why a start failed and tears down what it has made.
func (m *Manager) failedStart(ctx context.Context, rec *banger.Record, cause error) error {
	clean := context.WithoutCancel(ctx)
	// A monitor that can still be asked writes down how far the boot got.
	answered := m.alive(rec.ID) && m.interrupt(clean, *rec)
	err := m.Steps.Run(clean, rec.ID, steps.Step{Name: "fail.processes", Do: func(clean context.Context) error {
		return m.endProcesses(clean, rec.ID, answered)
	}})
	if err != nil {
		m.Log.ErrorContext(ctx, "end a failed start", "vm", rec.Name, "err", err)
	}
	exit, _ := m.lastExit(rec.ID)
	ended := m.exitIsNews(*rec)
	failure := m.whyNotStarted(ctx, *rec, cause, exit, ended)
	said := failure.Message
	if errors.Is(context.Cause(ctx), errKilled) {
		said = "" // as asked
	}
	err = m.Steps.Run(clean, rec.ID, steps.Step{Name: "fail.row", Do: func(ctx context.Context) error {
		return m.recordFailure(ctx, rec, said, failure.Message, exit, ended)
	}})
	if err != nil {
		// handles.json still says that there is something to do, for whoever looks next.
		m.Log.ErrorContext(ctx, "record a failed start", "vm", rec.Name, "err", err)
		return failure
	}
	if err := m.teardown(clean, rec.ID); err != nil {
		m.Log.ErrorContext(ctx, "teardown after a failed start", "vm", rec.Name, "err", err)
	}
	return failure
}

// recordFailure writes a start that failed to the row, and tells why.
func (m *Manager) recordFailure(ctx context.Context, rec *banger.Record, lastError, why string, exit monitor.Exit, ended bool) error {
	updated, err := m.Rows.Update(ctx, rec.ID, func(r *banger.Record) error {
		r.Intent, r.LastError = banger.IntentStopped, lastError
		if ended {
			r.LastExit = &exit.LastExit
		}
		return nil
	}, func(r banger.Record) banger.Event {
		e := eventOf(ctx, banger.EventVMStartFailed, r)
		e.Reason = why
		return e
	})
	if err != nil {
		return err
	}
	*rec = updated
	return nil
}

// whyNotStarted is the error of a start that failed with cause and, if ended is
// set, whose VM's run ended with exit.
func (m *Manager) whyNotStarted(ctx context.Context, rec banger.Record, cause error, exit monitor.Exit, ended bool) *banger.Error {
	switch {
	case errors.Is(context.Cause(ctx), errKilled):
		return banger.Errorf(banger.KindCancelled, "VM %s was killed while it was being started", rec.Name)
	case ctx.Err() != nil:
		return &banger.Error{Kind: banger.KindCancelled, Message: fmt.Sprintf("the start of %s was cancelled", rec.Name), Err: cause}
	}
	e := banger.Errorf(banger.KindOf(cause), "VM %s did not start: %w", rec.Name, cause)
	switch {
	case ended && exit.Reason != monitor.ReasonKilled: // that was us
		e = banger.Errorf(banger.KindInternal, "VM %s did not start: %s", rec.Name, describeExit(exit))
	case e.Kind != banger.KindInternal:
		return banger.Errorf(e.Kind, "VM %s did not start: %w", rec.Name, plainStep(cause)).WithNext("%s", banger.NextOf(cause))
	}
	if !rec.Spec.Ephemeral {
		e = e.WithNext("banger vm logs %s", rec.Name)
	}
	return e
}

// consoleLines is how much of the console an error repeats.
const consoleLines = 8

// describeExit says for people how a run ended: in which stage of the boot, why,
// and the console's last lines.
func describeExit(e monitor.Exit) string {
	s := e.Detail
	if e.Stage != "" {
		s = fmt.Sprintf("in the boot's stage %q: %s", e.Stage, e.Detail)
	}
	if e.Reason != monitor.ReasonBootFailed && e.Reason != monitor.ReasonPanic {
		return s
	}
	lines := strings.Split(strings.TrimRight(e.Console, "\n"), "\n")
	if over := len(lines) - consoleLines; over > 0 {
		lines = lines[over:]
	}
	if text := strings.TrimSpace(strings.Join(lines, "\n  | ")); text != "" {
		s += "\nthe console's last lines:\n  | " + text
	}
	return s
}

// fits refuses a start for which there is no VMM, or when the VMs that run, or
// are being started, would want more memory than there is. What is noted of them
// is no less than they have: only when that is too much does it matter who of
// them has ended. The caller holds admission.
func (m *Manager) fits(rec banger.Record, overcommit bool) error {
	p := m.Platform()
	if p.Binary == "" {
		return p.Missing
	}
	if overcommit || rec.Spec.Overcommit {
		return nil
	}
	total := m.spokenFor(rec)
	if total > p.Memory {
		m.forgetEnded()
		total = m.spokenFor(rec)
	}
	// A restart that takes no more than the VM has now makes nothing worse.
	if total <= p.Memory || rec.Spec.Memory <= m.memoryNow(rec.ID) {
		return nil
	}
	return banger.Errorf(banger.KindConflict, "VM %s wants %s; with what the running VMs have that is %s, more than the host's %s", rec.Name, rec.Spec.Memory, total, p.Memory).
		WithNext("banger ps, then banger vm stop one of them, or --overcommit")
}

// memoryNow is what is noted of the memory of a VM, as of forgetEnded.
func (m *Manager) memoryNow(id string) banger.Bytes {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.memory[id]
}

// memoryOf is what a VM that is alive, or about to be, has of the host's memory:
// its spec may have been changed since it was started.
func (m *Manager) memoryOf(rec banger.Record) banger.Bytes {
	if h := m.readHandles(rec.ID); h != nil && h.Memory != 0 {
		return h.Memory
	}
	return rec.Spec.Memory
}

// spokenFor is the memory of rec and of all other VMs of which it is noted.
func (m *Manager) spokenFor(rec banger.Record) banger.Bytes {
	m.mu.Lock()
	defer m.mu.Unlock()
	total := rec.Spec.Memory
	for id, memory := range m.memory {
		if id != rec.ID {
			total += memory
		}
	}
	return total
}

// forgetEnded takes off the notes of memory those of VMs that have ended.
func (m *Manager) forgetEnded() {
	m.mu.Lock()
	ids := slices.Collect(maps.Keys(m.memory))
	m.mu.Unlock()
	for _, id := range ids {
		// In this order: a VM is alive before it is no longer being started.
		if m.isUnderway(m.starting, id) || m.alive(id) {
			continue
		}
		m.mu.Lock()
		delete(m.memory, id)
		m.mu.Unlock()
	}
}

// bootPlan is one start under way.
type bootPlan struct {
	m        *Manager
	platform Platform
	opts     StartOptions
	order    monitor.Order
}

// attached are the VM's disks as its VMM opens them.
type attached struct{ root, work disk.Attached }

func (b *bootPlan) prepare(ctx context.Context, rec banger.Record) error {
	m := b.m
	if err := m.checkPorts(ctx, rec.ID, rec.Spec.Publish); err != nil {
		return err
	}
	if err := m.hold(ctx, rec); err != nil {
		return err
	}
	kernel, err := m.Kernels.Get(ctx, rec.KernelDigest)
	if err != nil {
		return err
	}
	image, err := m.Images.Resolve(ctx, rec.ImageDigest, nil)
	if err != nil {
		return err
	}
	disks, err := m.attach(ctx, rec, image)
	if err != nil {
		return err
	}
	if err := m.writeConfigDisk(rec, image); err != nil {
		return err
	}
	b.order = m.order(rec, b.platform, kernel, disks)
	b.order.BootTimeout, b.order.Request = b.opts.Timeout, request.ID(ctx)
	if b.opts.Leased {
		b.order.LeaseTimeout = LeaseTimeout
	}
	return nil
}

func (m *Manager) attach(ctx context.Context, rec banger.Record, image banger.Image) (a attached, err error) {
	files := m.files(rec.ID)
	base := disk.Base{Path: image.RootFS, Size: image.Size}
	if a.root, err = m.Disks.Attach(ctx, base, files.SystemDisk(m.Disks.Ext())); err != nil {
		return a, unfit(err, "system", "banger vm reset %s, which makes it anew, or banger vm delete %[1]s", rec.Name)
	}
	if err := m.growSystemDisk(ctx, rec); err != nil { // where a Set was cut off
		return a, err
	}
	if rec.Spec.Work == 0 {
		return a, nil
	}
	work, err := m.workBase(ctx, rec)
	if err != nil {
		return a, err
	}
	if a.work, err = m.Disks.Attach(ctx, work, files.WorkDisk(m.Disks.Ext())); err != nil {
		return a, unfit(err, "work", "put a copy of it back, or banger vm delete %s", rec.Name)
	}
	return a, nil
}

// unfit says what to do about a disk that cannot be opened.
func unfit(err error, which, next, name string) error {
	if errors.Is(err, disk.ErrDamaged) {
		return banger.Errorf(banger.KindConflict, "the %s disk: %w", which, err).WithNext(next, name)
	}
	return fmt.Errorf("the %s disk: %w", which, err)
}

// recordIntended says in handles.json that a monitor is about to be started. An
// earlier run's exit.json, which the row knows, goes first: see settleLocked.
func (b *bootPlan) recordIntended(rec banger.Record) error {
	boot, err := b.m.Processes.BootID()
	if err != nil {
		return err
	}
	if err := removeFile(b.m.files(rec.ID).Exit()); err != nil {
		return err
	}
	return b.m.writeHandles(rec.ID, banger.Handles{
		BootID: boot, VMM: string(rec.Machine.VMM), Accel: b.platform.Accel, Disk: rec.Machine.DiskDriver, Step: "start.monitor",
		VCPUs: rec.Spec.VCPUs, Memory: rec.Spec.Memory,
	})
}

func (b *bootPlan) spawn(ctx context.Context, rec banger.Record) error {
	status, err := b.m.Monitors.Spawn(ctx, b.order)
	if err != nil {
		return err
	}
	return b.m.recordAlive(rec, status)
}

// recordAlive adds what the monitor said of itself to handles.json.
func (m *Manager) recordAlive(rec banger.Record, s monitor.Status) error {
	h := m.readHandles(rec.ID)
	if h == nil {
		h = &banger.Handles{VMM: string(rec.Machine.VMM), Disk: rec.Machine.DiskDriver}
	}
	boot, err := m.Processes.BootID()
	if err != nil {
		return err
	}
	start, err := m.Processes.StartTime(s.MonitorPID)
	if err != nil {
		return fmt.Errorf("the monitor is gone already: %w", err)
	}
	m.noteRun(rec.ID, s)
	h.BootID, h.Step = boot, "start.ready"
	h.PID, h.PIDStart, h.MonitorPID, h.MonitorStart = s.VMM.PID, s.VMM.Start, s.MonitorPID, start
	return m.writeHandles(rec.ID, *h)
}

// readySlack is how much longer than the boot's own deadline, which the monitor
// keeps, its answer is waited for: it writes down how the VM ended first.
const readySlack = 20 * time.Second

func (b *bootPlan) awaitReady(ctx context.Context, rec banger.Record) error {
	ctx, cancel := context.WithTimeout(ctx, b.opts.Timeout+readySlack)
	defer cancel()
	s, err := b.m.monitorOf(rec.ID).Ready(ctx)
	if err != nil {
		return err
	}
	b.m.noteReady(rec.ID, s)
	return nil
}

// awaitOther waits until a VM is ready that was found alive: a daemon before
// this one may have begun its boot.
func (m *Manager) awaitOther(ctx context.Context, rec banger.Record, opts StartOptions) error {
	if opts.Timeout == 0 {
		opts.Timeout = DefaultStartTimeout
	}
	asking, cancel := context.WithTimeout(ctx, opts.Timeout)
	defer cancel()
	s, err := m.monitorOf(rec.ID).Ready(asking)
	switch {
	case err == nil:
		m.noteReady(rec.ID, s)
		return nil
	case ctx.Err() != nil:
		return &banger.Error{Kind: banger.KindCancelled, Message: fmt.Sprintf("nobody waits any more for %s to be ready", rec.Name), Err: err}
	case asking.Err() == nil && m.awaitFree(ctx, rec.ID, exitTimeout) == nil:
		return banger.Errorf(banger.KindInternal, "VM %s ended before it was ready", rec.Name).WithNext("banger vm logs %s", rec.Name)
	default:
		return banger.Errorf(banger.KindUnavailable, "VM %s is running, but its guest is not ready: %w", rec.Name, err).WithNext("banger vm logs %s", rec.Name)
	}
}

// initPoll is how often the agent is asked how far the init has got: each look
// is a process in the guest.
const initPoll = time.Second

// awaitInit waits for the image's init where the user asked for it.
func (m *Manager) awaitInit(ctx context.Context, rec banger.Record, opts StartOptions) error {
	if opts.Wait != WaitInit {
		return nil
	}
	if opts.Timeout == 0 {
		opts.Timeout = DefaultStartTimeout
	}
	// An emulated systemd takes many times as long as the boot to ready.
	asking, cancel := context.WithTimeout(ctx, 2*opts.Timeout)
	defer cancel()
	tick := time.NewTicker(initPoll)
	defer tick.Stop()
	said := "nothing"
	for {
		status, err := m.monitorOf(rec.ID).Init(asking)
		if err == nil {
			said = status.State
		}
		switch {
		case err == nil && status.Done:
			return nil
		case ctx.Err() != nil:
			return &banger.Error{Kind: banger.KindCancelled, Message: fmt.Sprintf("nobody waits any more for the init of %s", rec.Name), Err: ctx.Err()}
		case asking.Err() != nil:
			return banger.Errorf(banger.KindUnavailable, "VM %s is running, but its init has not finished within %s (it says %.100q)", rec.Name, 2*opts.Timeout, said).
				WithNext("banger vm exec %s -- systemctl list-jobs", rec.Name)
		case err != nil && !m.alive(rec.ID):
			return banger.Errorf(banger.KindInternal, "VM %s ended while its init started", rec.Name).WithNext("banger vm logs %s", rec.Name)
		}
		select {
		case <-tick.C:
		case <-asking.Done():
		}
	}
}
