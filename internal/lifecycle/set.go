package lifecycle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/monitor"
	"banger.dev/banger/internal/steps"
)

// Change is what is to be different of a VM's spec; what is nil stays.
type Change struct {
	VCPUs  *int
	Memory *banger.Bytes
	Disk   *banger.Bytes // it can only grow
	Image  *string       // of a VM that does not run: its system disk is begun anew
	Labels map[string]*string

	Kernel     *string // of a VM that does not run; "" for the image's, else the default one
	KernelArgs *string
}

// apply is a spec with the change made.
func (c Change) apply(spec banger.Spec) banger.Spec {
	set(&spec.VCPUs, c.VCPUs)
	set(&spec.Memory, c.Memory)
	set(&spec.Disk, c.Disk)
	spec.FitDisk = spec.FitDisk && c.Disk == nil
	set(&spec.Image, c.Image)
	set(&spec.Kernel, c.Kernel)
	set(&spec.KernelArgs, c.KernelArgs)
	spec.Labels = maps.Clone(spec.Labels)
	for key, value := range c.Labels {
		switch {
		case value == nil:
			delete(spec.Labels, key)
		case spec.Labels == nil:
			spec.Labels = map[string]string{key: *value}
		default:
			spec.Labels[key] = *value
		}
	}
	return spec
}

func set[T any](field *T, value *T) {
	if value != nil {
		*field = *value
	}
}

// Set changes a VM's spec. What can be done while it runs is done at once, and
// the outcome's note says what takes effect at its next start. Another image
// throws away what the VM has written over the present one and keeps the work
// disk, as a reset does.
//
// Files come before the row and the row before a live VM: whoever dies in
// between leaves a disk that is larger than the row says, an empty one, or one
// that the next start makes as large as the row says.
func (m *Manager) Set(ctx context.Context, ref string, change Change, report banger.ProgressFunc) (banger.Detail, Outcome, error) {
	rec, unlock, err := m.locked(ctx, ref)
	if err != nil {
		return banger.Detail{}, Outcome{}, err
	}
	defer unlock()
	if _, remains := m.settle(ctx, &rec); !remains {
		return banger.Detail{}, Outcome{}, errEnded(ref)
	}
	want, err := m.judgeChange(rec, change)
	if err != nil {
		return banger.Detail{}, Outcome{}, err
	}
	s := setting{m: m, rec: &rec, change: change, want: want}
	if err := s.run(ctx, report); err != nil {
		return banger.Detail{}, Outcome{}, plainStep(err)
	}
	return m.detail(ctx, rec), Outcome{Changed: s.changed, Note: strings.Join(s.later, "; ")}, nil
}

// judgeChange gives the spec that is wanted, or says why it cannot be.
func (m *Manager) judgeChange(rec banger.Record, change Change) (banger.Spec, error) {
	v := verbSet
	if change.Image != nil || change.Kernel != nil {
		v = verbSetBase
	}
	if _, err := m.judge(v, rec); err != nil {
		return rec.Spec, err
	}
	if rec.Creating {
		return rec.Spec, errBroken(rec, m.brokenBy(rec))
	}
	want := change.apply(rec.Spec)
	if want.Disk < rec.Spec.Disk {
		return want, banger.Errorf(banger.KindInvalid, "--disk %s: the disk of VM %s has %s, and can only grow", want.Disk, rec.Name, rec.Spec.Disk).
			WithNext("banger vm show %s", rec.Name)
	}
	return want, want.Validate(m.Platform().Host)
}

// setting is one Set under way.
type setting struct {
	m       *Manager
	rec     *banger.Record
	change  Change
	want    banger.Spec
	image   banger.Image  // if another is wanted
	kernel  banger.Kernel // the same
	changed bool
	later   []string // for people: what takes effect at the next start
}

func (s *setting) run(ctx context.Context, report banger.ProgressFunc) error {
	if s.change.Image != nil {
		err := s.m.pulling(ctx, *s.rec, steps.Step{Name: "set.image", Do: func(ctx context.Context) (err error) {
			s.image, err = s.m.Images.Resolve(ctx, *s.change.Image, report)
			s.want = s.want.Fitting(s.image.Size)
			return err
		}})
		if err != nil {
			return err
		}
	}
	if ref, wanted := s.otherKernel(); wanted {
		err := s.m.Steps.Run(ctx, s.rec.ID, steps.Step{Name: "set.kernel", Do: func(ctx context.Context) (err error) {
			s.kernel, err = s.m.Kernels.Resolve(ctx, ref, report)
			return err
		}})
		if err != nil {
			return err
		}
	}
	ctx = context.WithoutCancel(ctx) // what is begun is finished
	return s.m.Steps.Run(ctx, s.rec.ID,
		steps.Step{Name: "set.overlay", Do: s.overlay},
		steps.Step{Name: "set.row", Do: s.row},
		steps.Step{Name: "set.live", Do: s.live},
	)
}

// otherKernel is the kernel that is wanted, if any: one that is named, or that of
// another image for a VM that names none.
func (s *setting) otherKernel() (ref string, wanted bool) {
	ref = cmp.Or(s.want.Kernel, s.image.Kernel)
	return ref, s.change.Kernel != nil || s.want.Kernel == "" && s.image.Kernel != ""
}

// overlay makes the system disk of a VM that does not run as it is wanted, and
// notes that it needs another kernel.
func (s *setting) overlay(ctx context.Context) error {
	next := *s.rec
	next.Spec = s.want
	next.KernelDigest = cmp.Or(s.kernel.Digest, next.KernelDigest)
	if s.otherImage() {
		return s.m.makeSystemDisk(ctx, next, s.image)
	}
	if next.KernelDigest != s.rec.KernelDigest {
		if err := s.m.hold(ctx, next); err != nil {
			return err
		}
	}
	if s.change.Disk == nil || s.m.alive(s.rec.ID) || s.m.brokenBy(*s.rec).why != "" {
		return nil
	}
	return s.m.growSystemDisk(ctx, next)
}

func (s *setting) otherImage() bool {
	return s.change.Image != nil && s.image.Digest != s.rec.ImageDigest
}

func (s *setting) row(ctx context.Context) error {
	what := differences(s.rec.Spec, s.want)
	if s.otherImage() && what["image"] == "" {
		what["image"] = s.want.Image // which stands for another one now
	}
	if s.kernel.Digest != "" && s.kernel.Digest != s.rec.KernelDigest {
		what["kernel"] = s.kernel.Release
	}
	if len(what) == 0 {
		return nil
	}
	s.changed = true
	updated, err := s.m.Rows.Update(ctx, s.rec.ID, func(r *banger.Record) error {
		r.Spec = s.change.apply(r.Spec).Fitting(s.image.Size)
		if s.change.Image != nil {
			r.ImageDigest = s.image.Digest
		}
		r.KernelDigest = cmp.Or(s.kernel.Digest, r.KernelDigest)
		return nil
	}, func(r banger.Record) banger.Event {
		e := eventOf(ctx, banger.EventVMChanged, r)
		e.Detail = what
		return e
	})
	if err != nil {
		return err
	}
	if s.m.alive(s.rec.ID) {
		s.later = append(s.later, atNextStart(what)...)
	}
	*s.rec = updated
	if s.change.Image != nil || s.change.Kernel != nil {
		s.m.keep(ctx, updated)
	}
	return nil
}

// atNextStart says for people what of a change a VM that runs does not take.
func atNextStart(what map[string]string) (later []string) {
	if what["vcpus"] != "" || what["memory"] != "" {
		later = append(later, "vcpus and memory take effect at its next start")
	}
	if _, changed := what["kernel args"]; changed {
		later = append(later, "the kernel's arguments take effect at its next start")
	}
	return later
}

// differences are the parts of a spec that are to be different, and how.
func differences(before, after banger.Spec) map[string]string {
	what := map[string]string{}
	note := func(name string, differs bool, value string) {
		if differs {
			what[name] = value
		}
	}
	note("vcpus", before.VCPUs != after.VCPUs, fmt.Sprint(after.VCPUs))
	note("memory", before.Memory != after.Memory, after.Memory.String())
	note("disk", before.Disk != after.Disk, after.Disk.String())
	note("image", before.Image != after.Image, after.Image)
	note("kernel", before.Kernel != after.Kernel, after.Kernel)
	note("kernel args", before.KernelArgs != after.KernelArgs, after.KernelArgs)
	note("labels", !maps.Equal(before.Labels, after.Labels), fmt.Sprint(len(after.Labels)))
	return what
}

// growTimeout is how long a VMM and its guest may take to grow a disk.
const growTimeout = 40 * time.Second

// rootDisk is the place of a VM's system disk among its disks.
const rootDisk = 1

// live grows the disk of a VM that runs. What cannot be done now is done at its
// next start.
func (s *setting) live(ctx context.Context) error {
	if s.change.Disk == nil || !s.m.alive(s.rec.ID) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, growTimeout)
	defer cancel()
	behind, err := s.m.monitorOf(s.rec.ID).Grow(ctx, rootDisk, s.rec.Spec.Disk)
	switch {
	case errors.Is(err, monitor.ErrOld):
		s.later = append(s.later, "the disk grows at its next start: an older banger has started it")
	case err != nil:
		s.later = append(s.later, fmt.Sprintf("the disk grows at its next start: %v", err))
	case behind != "":
		s.later = append(s.later, "its file system grows at its next start: "+behind)
	}
	return nil
}

// growSystemDisk makes the overlay of a VM that does not run as large as its spec says.
func (m *Manager) growSystemDisk(ctx context.Context, rec banger.Record) error {
	if err := m.Disks.Grow(ctx, m.files(rec.ID).SystemDisk(m.Disks.Ext()), rec.Spec.Disk); err != nil {
		return fmt.Errorf("grow the system disk to %s: %w", rec.Spec.Disk, err)
	}
	return nil
}
