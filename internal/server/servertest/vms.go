// Package servertest has a small world of VMs that behaves as server.VMs says,
// for tests of the server and of the client. It is not for anything that ships.
package servertest

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/lifecycle"
)

// host is what bounds a spec here.
var host = banger.Host{CPUs: 2, Memory: 8 * banger.GiB}

// VMs is the world. The zero value has no VMs in it. Set the fields before use.
type VMs struct {
	// Hold, when not nil, is received from by Create and Start after their first
	// report. They give up with their context.
	Hold chan struct{}
	// Text is every VM's console.
	Text string

	mu  sync.Mutex
	vms []banger.Detail
}

// created is when every VM of the world was made.
var created = time.Date(2025, 1, 2, 3, 4, 5, 0, time.UTC)

// Check is server.VMs's.
func (w *VMs) Check(_ context.Context, name string, spec banger.Spec) error {
	if name != "" {
		if err := banger.ValidateName(name); err != nil {
			return err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if i := w.find(name); i >= 0 {
		return banger.Errorf(banger.KindConflict, "a VM named %q exists already (id %s)", name, w.vms[i].ID).
			WithNext("banger vm delete %s", name)
	}
	return spec.Validate(host)
}

// Create is server.VMs's.
func (w *VMs) Create(ctx context.Context, name string, spec banger.Spec, start *lifecycle.StartOptions, report banger.ProgressFunc) (banger.Detail, error) {
	report.Report(banger.Progress{Stage: "pull image", Message: "pulling", Done: 1, Total: 2, Bytes: true})
	if err := w.wait(ctx); err != nil {
		return banger.Detail{}, err
	}
	if spec.Image == "absent" {
		return banger.Detail{}, banger.Errorf(banger.KindNotFound, "no image %q", spec.Image).WithNext("banger image list")
	}
	if spec.Image == "panic" {
		panic("a defect")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	n := len(w.vms) + 1
	if name == "" {
		name = fmt.Sprint("vm-", n)
	}
	d := banger.Detail{Spec: spec, VM: banger.VM{
		ID: fmt.Sprintf("%016x", n), Name: name, State: banger.StateStopped, Intent: banger.IntentStopped,
		Image: spec.Image, Kernel: KernelDigest, VCPUs: spec.VCPUs, MemoryBytes: spec.Memory, DiskBytes: spec.Disk, WorkBytes: spec.Work,
		Labels: spec.Labels, Created: created, Ports: spec.Publish,
	}}
	if start != nil {
		run(&d)
	}
	w.vms = append(w.vms, d)
	return d, nil
}

// Start is server.VMs's.
func (w *VMs) Start(ctx context.Context, ref string, opts lifecycle.StartOptions, report banger.ProgressFunc) (banger.Detail, lifecycle.Outcome, error) {
	report.Report(banger.Progress{Stage: "boot", Message: string(opts.Wait)})
	if err := w.wait(ctx); err != nil {
		return banger.Detail{}, lifecycle.Outcome{}, err
	}
	var after banger.Detail
	outcome, err := w.change(ref, func(d *banger.Detail) bool {
		changed := d.State != banger.StateRunning
		run(d)
		after = *d
		return changed
	})
	return after, outcome, err
}

// Stop is server.VMs's; the guest takes the timeout as its note.
func (w *VMs) Stop(_ context.Context, ref string, timeout time.Duration) (banger.VM, lifecycle.Outcome, error) {
	vm, outcome, err := w.halt(ref)
	outcome.Note = timeout.String()
	return vm, outcome, err
}

// Kill is server.VMs's.
func (w *VMs) Kill(_ context.Context, ref string) (banger.VM, lifecycle.Outcome, error) {
	return w.halt(ref)
}

// Restart is server.VMs's; the guest takes the timeout as its note.
func (w *VMs) Restart(ctx context.Context, ref string, opts lifecycle.RestartOptions, report banger.ProgressFunc) (banger.Detail, lifecycle.Outcome, error) {
	if _, _, err := w.halt(ref); err != nil {
		return banger.Detail{}, lifecycle.Outcome{}, err
	}
	detail, outcome, err := w.Start(ctx, ref, opts.StartOptions, report)
	outcome.Note = opts.StopTimeout.String()
	return detail, outcome, err
}

// Pause is server.VMs's.
func (w *VMs) Pause(_ context.Context, ref string) (banger.VM, lifecycle.Outcome, error) {
	return w.turn(ref, banger.StatePaused)
}

// Resume is server.VMs's.
func (w *VMs) Resume(_ context.Context, ref string) (banger.VM, lifecycle.Outcome, error) {
	return w.turn(ref, banger.StateRunning)
}

func (w *VMs) turn(ref string, state banger.State) (banger.VM, lifecycle.Outcome, error) {
	var after banger.VM
	outcome, err := w.change(ref, func(d *banger.Detail) bool {
		changed := d.State != state
		d.State = state
		after = d.VM
		return changed
	})
	return after, outcome, err
}

// Commit is server.VMs's.
func (w *VMs) Commit(ctx context.Context, ref, name string, report banger.ProgressFunc) (banger.Image, error) {
	report.Report(banger.Progress{Stage: "image"})
	if _, err := w.Show(ctx, ref); err != nil {
		return banger.Image{}, err
	}
	return banger.Image{Name: name, Digest: "sha256:abc"}, nil
}

// Reset is server.VMs's; what is forced is noted.
func (w *VMs) Reset(ctx context.Context, ref string, force bool, report banger.ProgressFunc) (banger.Detail, lifecycle.Outcome, error) {
	report.Report(banger.Progress{Stage: "pull image"})
	if err := w.wait(ctx); err != nil {
		return banger.Detail{}, lifecycle.Outcome{}, err
	}
	if _, _, err := w.halt(ref); err != nil {
		return banger.Detail{}, lifecycle.Outcome{}, err
	}
	detail, err := w.Show(ctx, ref)
	outcome := lifecycle.Outcome{Changed: true}
	if force {
		outcome.Note = "forced"
	}
	return detail, outcome, err
}

// Set is server.VMs's; it knows vcpus and labels.
func (w *VMs) Set(ctx context.Context, ref string, c lifecycle.Change, _ banger.ProgressFunc) (banger.Detail, lifecycle.Outcome, error) {
	outcome, err := w.change(ref, func(d *banger.Detail) bool {
		if c.VCPUs != nil {
			d.VCPUs = *c.VCPUs
		}
		for key, value := range c.Labels {
			if value == nil {
				delete(d.Labels, key)
			}
		}
		return true
	})
	if err != nil {
		return banger.Detail{}, outcome, err
	}
	detail, err := w.Show(ctx, ref)
	return detail, outcome, err
}

// Await is server.VMs's; nothing here changes by itself.
func (w *VMs) Await(ctx context.Context, ref string, until lifecycle.Condition) (banger.VM, bool, error) {
	detail, err := w.Show(ctx, ref)
	if err != nil {
		return banger.VM{}, false, err
	}
	if (until == lifecycle.UntilStopped) == (detail.State == banger.StateStopped) {
		return detail.VM, true, nil
	}
	<-ctx.Done()
	return detail.VM, false, nil
}

// Delete is server.VMs's.
func (w *VMs) Delete(_ context.Context, ref string, force bool) (banger.VM, lifecycle.Outcome, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := w.find(ref)
	if i < 0 {
		return banger.VM{}, lifecycle.Outcome{}, missing(ref)
	}
	vm := w.vms[i].VM
	if vm.State == banger.StateRunning && !force {
		return banger.VM{}, lifecycle.Outcome{}, banger.Errorf(banger.KindConflict, "%s is running", vm.Name).
			WithNext("banger vm delete --force %s", vm.Name)
	}
	w.vms = append(w.vms[:i], w.vms[i+1:]...)
	return vm, lifecycle.Outcome{Changed: true}, nil
}

// List is server.VMs's.
func (w *VMs) List(context.Context) ([]banger.VM, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []banger.VM
	for _, d := range w.vms {
		list = append(list, d.VM)
	}
	return list, nil
}

// Show is server.VMs's; a VM named panic makes it panic.
func (w *VMs) Show(_ context.Context, ref string) (banger.Detail, error) {
	if ref == "panic" {
		panic("a defect")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	i := w.find(ref)
	if i < 0 {
		return banger.Detail{}, missing(ref)
	}
	return w.vms[i], nil
}

// AddPorts is server.VMs's; port 1 of the host is taken.
func (w *VMs) AddPorts(_ context.Context, ref string, ports []banger.Port) (banger.VM, lifecycle.Outcome, error) {
	for _, p := range ports {
		if p.HostPort == 1 {
			return banger.VM{}, lifecycle.Outcome{}, banger.Errorf(banger.KindConflict, "%s is in use", p.Host())
		}
	}
	return w.setPorts(ref, func(d *banger.Detail) { d.Ports = append(d.Ports, ports...) })
}

// RemovePorts is server.VMs's.
func (w *VMs) RemovePorts(_ context.Context, ref string, ports []banger.Port) (banger.VM, lifecycle.Outcome, error) {
	return w.setPorts(ref, func(d *banger.Detail) {
		d.Ports = slices.DeleteFunc(d.Ports, func(p banger.Port) bool { return slices.ContainsFunc(ports, p.Matches) })
	})
}

func (w *VMs) setPorts(ref string, set func(*banger.Detail)) (banger.VM, lifecycle.Outcome, error) {
	var after banger.VM
	outcome, err := w.change(ref, func(d *banger.Detail) bool {
		before := len(d.Ports)
		set(d)
		after = d.VM
		return len(d.Ports) != before
	})
	return after, outcome, err
}

// Console is server.VMs's.
func (w *VMs) Console(ctx context.Context, ref string, opts lifecycle.ConsoleOptions) (*lifecycle.Console, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := w.find(ref)
	if i < 0 {
		return nil, missing(ref)
	}
	var text io.Reader = strings.NewReader(w.text(opts))
	if opts.Follow { // until the follower leaves
		text = io.MultiReader(text, &endless{ctx})
	}
	return &lifecycle.Console{ReadCloser: io.NopCloser(text), VM: w.vms[i].ID, Lost: opts.After.File == "gone"}, nil
}

// text is what is behind opts.After of the console.
func (w *VMs) text(opts lifecycle.ConsoleOptions) string {
	text, at := w.Text[opts.After.Offset:], opts.After.Offset
	if !opts.Places {
		return text
	}
	var placed strings.Builder
	for line := range strings.Lines(text) {
		at += int64(len(line))
		fmt.Fprintf(&placed, "console+%d %s", at, line)
	}
	return placed.String()
}

type endless struct{ ctx context.Context }

func (e *endless) Read([]byte) (int, error) {
	<-e.ctx.Done()
	return 0, e.ctx.Err()
}

// Stats is server.VMs's; nothing is known of a VM but its disk.
func (w *VMs) Stats(_ context.Context, refs []string) ([]banger.Stats, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, ref := range refs {
		if w.find(ref) < 0 {
			return nil, missing(ref)
		}
	}
	var all []banger.Stats
	for _, d := range w.vms {
		if len(refs) == 0 && d.State == banger.StateRunning || slices.Contains(refs, d.Name) {
			all = append(all, banger.Stats{ID: d.ID, Name: d.Name, State: d.State, Time: created, Disks: []banger.DiskStats{{Name: "system"}}})
		}
	}
	return all, nil
}

// SetClock is server.VMs's; every clock was a second ahead.
func (w *VMs) SetClock(_ context.Context, ref string) (time.Duration, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.find(ref) < 0 {
		return 0, missing(ref)
	}
	return time.Second, nil
}

func (w *VMs) wait(ctx context.Context) error {
	if w.Hold == nil {
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-w.Hold:
		return nil
	}
}

func (w *VMs) halt(ref string) (banger.VM, lifecycle.Outcome, error) {
	var after banger.VM
	outcome, err := w.change(ref, func(d *banger.Detail) bool {
		changed := d.State == banger.StateRunning
		d.State, d.Intent, d.Handles, d.Started = banger.StateStopped, banger.IntentStopped, nil, nil
		after = d.VM
		return changed
	})
	return after, outcome, err
}

func (w *VMs) change(ref string, f func(*banger.Detail) bool) (lifecycle.Outcome, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := w.find(ref)
	if i < 0 {
		return lifecycle.Outcome{}, missing(ref)
	}
	return lifecycle.Outcome{Changed: f(&w.vms[i])}, nil
}

// find is the index of the VM with this name or id, or -1. w.mu is held.
func (w *VMs) find(ref string) int {
	for i, d := range w.vms {
		if d.Name == ref || d.ID == ref {
			return i
		}
	}
	return -1
}

func run(d *banger.Detail) {
	started := created.Add(time.Hour)
	d.State, d.Intent, d.Started = banger.StateRunning, banger.IntentRunning, &started
	d.Handles = &banger.Handles{BootID: "boot", PID: 1234, MonitorPID: 1233, VMM: "qemu", Accel: "tcg", Disk: "qcow2"}
	d.Paths = map[string]string{"dir": "/somewhere"}
}

func missing(ref string) error {
	return banger.Errorf(banger.KindNotFound, "no VM named %q", ref).WithNext("banger vm list")
}
