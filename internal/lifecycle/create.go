package lifecycle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/disk"
	"banger.dev/banger/internal/steps"
)

// nameTries is how often a free name is looked for when the user gives none.
const nameTries = 20

// Check says what stands against a VM with this name and spec; "" is a name
// still to be chosen. It changes nothing.
func (m *Manager) Check(ctx context.Context, name string, spec banger.Spec) error {
	if err := m.check(ctx, name, spec.WithDefaults()); err != nil {
		return err
	}
	found, err := m.Rows.Find(ctx, m.Owner, name)
	if err != nil {
		return err
	}
	for _, r := range found {
		if r.Name == name {
			return banger.Errorf(banger.KindConflict, "a VM named %q exists already (id %s, created %s)", name, r.ID, r.Created.Format(time.DateTime)).
				WithNext("banger vm delete %s, or choose another --name", name)
		}
	}
	return nil
}

// check is Check but for whether the name is taken, which the insert of the row
// finds out.
func (m *Manager) check(ctx context.Context, name string, spec banger.Spec) error {
	if name != "" {
		if err := banger.ValidateName(name); err != nil {
			return err
		}
	}
	p := m.Platform()
	if err := spec.Validate(p.Host); err != nil {
		return err
	}
	if spec.VMM != banger.VMMAuto && spec.VMM != p.VMM {
		return banger.Errorf(banger.KindInvalid, "--vmm %s: this banger drives %s only", spec.VMM, p.VMM)
	}
	return m.checkPorts(ctx, "", spec.Publish)
}

// Create makes a VM and, if start is given, boots it. An error or the end of
// ctx leaves nothing, but for a boot that fails: then the VM stays, stopped,
// with its console to read; an ephemeral one does not.
func (m *Manager) Create(ctx context.Context, name string, spec banger.Spec, start *StartOptions, report banger.ProgressFunc) (banger.Detail, error) {
	spec = spec.WithDefaults()
	if err := m.check(ctx, name, spec); err != nil {
		return banger.Detail{}, err
	}
	rec, err := m.newRecord(name, spec)
	if err != nil {
		return banger.Detail{}, err
	}
	if rec.Spec.Publish, err = m.choosePorts(rec.Spec.Publish); err != nil {
		return banger.Detail{}, err
	}
	if start != nil { // before anything is fetched for a VM that could not start
		if err := m.admissible(rec, start.Overcommit); err != nil {
			return banger.Detail{}, err
		}
	}
	image, err := m.create(ctx, &rec, start, report)
	if err != nil {
		return banger.Detail{}, err
	}
	if start != nil {
		if err := m.awaitInit(ctx, rec, *start); err != nil {
			if ctx.Err() != nil || rec.Spec.Ephemeral {
				return banger.Detail{}, errors.Join(cancelled(ctx, rec, err), m.remove(context.WithoutCancel(ctx), rec))
			}
			return banger.Detail{}, err
		}
	}
	d := m.detail(ctx, rec)
	d.Entrypoint, d.Cmd = image.Entrypoint, image.Cmd
	return d, nil
}

// create does the part of Create for which the VM's lock is held.
func (m *Manager) create(ctx context.Context, rec *banger.Record, start *StartOptions, report banger.ProgressFunc) (banger.Image, error) {
	unlock, err := m.acquire(ctx, *rec)
	if err != nil {
		return banger.Image{}, err
	}
	defer unlock()
	// Before the row is there: whoever sees the row can tell that it is in hand.
	ctx, done := m.begin(ctx, m.creating, rec.ID)
	defer done()
	if err := m.insert(ctx, rec); err != nil {
		return banger.Image{}, errors.Join(cancelled(ctx, *rec, err), m.Rows.Delete(context.WithoutCancel(ctx), rec.ID))
	}
	intent := banger.IntentStopped
	if start != nil {
		intent = banger.IntentRunning
	}
	image, err := m.furnish(ctx, rec, intent, report)
	if err != nil {
		return image, errors.Join(cancelled(ctx, *rec, err), m.discard(ctx, *rec))
	}
	if start == nil {
		return image, nil
	}
	booting, booted, err := m.admit(ctx, *rec, start.Overcommit)
	if err != nil {
		return image, errors.Join(cancelled(ctx, *rec, err), m.discard(ctx, *rec))
	}
	defer booted()
	if err := m.boot(booting, rec, *start, report); err != nil {
		if ctx.Err() != nil || rec.Spec.Ephemeral {
			return image, errors.Join(cancelled(ctx, *rec, err), m.discard(ctx, *rec))
		}
		return image, err
	}
	return image, nil
}

// cancelled replaces the error of a create that was told to stop.
func cancelled(ctx context.Context, rec banger.Record, err error) error {
	if ctx.Err() == nil {
		return err
	}
	of := "a VM"
	if rec.Name != "" {
		of = rec.Name
	}
	return &banger.Error{Kind: banger.KindCancelled, Message: fmt.Sprintf("the create of %s was cancelled", of), Err: err}
}

// newRecord is the row of a new VM, the first trace of it.
func (m *Manager) newRecord(name string, spec banger.Spec) (banger.Record, error) {
	id, err := randomHex(idBytes)
	if err != nil {
		return banger.Record{}, err
	}
	identity, err := newIdentity(id, m.Platform(), m.Disks.Name())
	return banger.Record{
		ID: id, Name: name, Owner: m.Owner, Spec: spec, Intent: banger.IntentStopped,
		Creating: true, Machine: identity, Created: time.Now().UTC(),
	}, err
}

// insert adds the row, choosing a name if there is none.
func (m *Manager) insert(ctx context.Context, rec *banger.Record) (err error) {
	if rec.Name != "" {
		return m.Rows.Insert(ctx, *rec)
	}
	for range nameTries {
		if rec.Name, err = randomName(); err != nil {
			return err
		}
		if err = m.Rows.Insert(ctx, *rec); banger.KindOf(err) != banger.KindConflict {
			return err
		}
	}
	rec.Name = "vm-" + rec.ID
	return m.Rows.Insert(ctx, *rec)
}

// furnish fetches image and kernel, makes the disks and ends the creating. The
// intent is what is to become of the VM next: written here, it costs the start no
// transaction of its own.
func (m *Manager) furnish(ctx context.Context, rec *banger.Record, intent banger.Intent, report banger.ProgressFunc) (banger.Image, error) {
	var image banger.Image
	var kernel banger.Kernel
	err := m.Steps.Run(ctx, rec.ID,
		steps.Step{Name: "create.image", Do: func(ctx context.Context) (err error) {
			image, err = m.Images.Resolve(ctx, rec.Spec.Image, report)
			rec.Spec = rec.Spec.Fitting(image.Size)
			return err
		}},
		steps.Step{Name: "create.kernel", Do: func(ctx context.Context) (err error) {
			kernel, err = m.Kernels.Resolve(ctx, cmp.Or(rec.Spec.Kernel, image.Kernel), report)
			return err
		}},
		steps.Step{Name: "create.disks", Do: func(ctx context.Context) error {
			made := *rec
			made.KernelDigest = kernel.Digest
			return m.makeDisks(ctx, made, image)
		}},
		steps.Step{Name: "create.keys", Do: func(context.Context) error { return m.makeKeys(*rec) }},
		steps.Step{Name: "create.row", Do: func(ctx context.Context) error {
			updated, err := m.Rows.Update(ctx, rec.ID, func(r *banger.Record) error {
				r.Creating, r.ImageDigest, r.KernelDigest, r.Intent = false, image.Digest, kernel.Digest, intent
				r.Spec.Disk = rec.Spec.Disk
				return nil
			}, func(r banger.Record) banger.Event {
				e := eventOf(ctx, banger.EventVMCreated, r)
				e.Detail = map[string]string{"image": r.Spec.Image}
				return e
			})
			if err == nil { // else rec is what there is to clean up
				*rec = updated
			}
			return err
		}},
	)
	return image, plainStep(err)
}

// plainStep takes the name of the step off an error that is meant for people as it is.
func plainStep(err error) error {
	var e *banger.Error
	if errors.As(err, &e) {
		return e
	}
	return err
}

func (m *Manager) makeDisks(ctx context.Context, rec banger.Record, image banger.Image) error {
	files := m.files(rec.ID)
	if err := os.MkdirAll(files.Dir, 0o700); err != nil {
		return err
	}
	var work disk.Base
	if rec.Spec.Work != 0 {
		var err error
		if work, err = m.workBase(ctx, rec); err != nil {
			return err
		}
	}
	if err := m.makeSystemDisk(ctx, rec, image); err != nil || rec.Spec.Work == 0 {
		return err
	}
	return m.Disks.Create(ctx, work, files.WorkDisk(m.Disks.Ext()), rec.Spec.Work)
}

// makeSystemDisk lays an empty overlay over the image, in place of what there
// may be.
func (m *Manager) makeSystemDisk(ctx context.Context, rec banger.Record, image banger.Image) error {
	if least := banger.DiskFor(image.Size); rec.Spec.Disk < image.Size {
		return banger.Errorf(banger.KindInvalid, "--disk %s: the image %s needs at least %s", rec.Spec.Disk, cmp.Or(image.Name, image.Digest), least).
			WithNext("the same with --disk %s", least)
	}
	rec.ImageDigest = image.Digest
	if err := m.hold(ctx, rec); err != nil {
		return err
	}
	base := disk.Base{Path: image.RootFS, Size: image.Size}
	return m.Disks.Create(ctx, base, m.files(rec.ID).SystemDisk(m.Disks.Ext()), rec.Spec.Disk)
}

func (m *Manager) workBase(ctx context.Context, rec banger.Record) (disk.Base, error) {
	path, err := m.Images.Template(ctx, rec.Spec.Work)
	return disk.Base{Path: path, Size: rec.Spec.Work}, err
}
