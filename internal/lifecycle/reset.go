package lifecycle

import (
	"context"
	"errors"

	"banger.dev/banger"
	"banger.dev/banger/internal/steps"
)

// Reset throws away what a VM has written over its image and keeps its work
// disk. The image is the one that the VM has; only if that is in no cache any
// more is it fetched by its name, and may be a newer one. A VM whose system disk
// is gone gets another. One that runs is refused unless force is given, which
// kills it first. The VM is stopped afterwards.
//
// The overlay is replaced whole, before the row: whoever dies in between leaves
// an empty overlay, which is as good over the image that the row names.
func (m *Manager) Reset(ctx context.Context, ref string, force bool, report banger.ProgressFunc) (banger.Detail, Outcome, error) {
	rec, unlock, err := m.locked(ctx, ref)
	if err != nil {
		return banger.Detail{}, Outcome{}, err
	}
	defer unlock()
	if err := m.mayReset(rec, force); err != nil {
		return banger.Detail{}, Outcome{}, err
	}
	image, err := m.imageForReset(ctx, rec, report)
	if err != nil {
		return banger.Detail{}, Outcome{}, err
	}
	if rec.Spec = rec.Spec.Fitting(image.Size); rec.Spec.Disk < image.Size { // one that has taken the name
		return banger.Detail{}, Outcome{}, banger.Errorf(banger.KindConflict, "the disk of VM %s has %s, and the image %s needs %s", rec.Name, rec.Spec.Disk, image.Name, image.Size).
			WithNext("banger vm set --disk %s %s", banger.DiskFor(image.Size), rec.Name)
	}
	if err := m.endRun(ctx, &rec); err != nil {
		return banger.Detail{}, Outcome{}, err
	}
	err = m.Steps.Run(context.WithoutCancel(ctx), rec.ID, // what is begun is finished
		steps.Step{Name: "reset.overlay", Do: func(ctx context.Context) error { return m.makeSystemDisk(ctx, rec, image) }},
		steps.Step{Name: "reset.row", Do: func(ctx context.Context) (err error) {
			if rec, err = m.setImage(ctx, rec, image); err == nil {
				m.keep(ctx, rec)
			}
			return err
		}},
	)
	if err != nil {
		return banger.Detail{}, Outcome{}, plainStep(err)
	}
	return m.detail(ctx, rec), Outcome{Changed: true}, nil
}

func (m *Manager) mayReset(rec banger.Record, force bool) error {
	v := verbReset
	if force {
		v = verbForcedReset
	}
	if _, err := m.judge(v, rec); err != nil {
		return err
	}
	if rec.Spec.Ephemeral {
		return errEphemeral(rec)
	}
	if b := m.brokenBy(rec); b.why != "" && !b.mends {
		return errBroken(rec, b)
	}
	return nil
}

// imageForReset is the image that a fresh system disk is laid over.
func (m *Manager) imageForReset(ctx context.Context, rec banger.Record, report banger.ProgressFunc) (image banger.Image, err error) {
	err = m.pulling(ctx, rec, steps.Step{Name: "reset.image", Do: func(ctx context.Context) (err error) {
		image, err = m.imageOf(ctx, rec, report)
		return err
	}})
	return image, err
}

// pulling does a step of a verb on a VM that may have to pull an image. Whoever
// deletes the VM does not wait for that.
func (m *Manager) pulling(ctx context.Context, rec banger.Record, step steps.Step) error {
	ctx, done := m.begin(ctx, m.creating, rec.ID)
	defer done()
	err := m.Steps.Run(ctx, rec.ID, step)
	if errors.Is(context.Cause(ctx), errDeleted) {
		return banger.Errorf(banger.KindCancelled, "VM %s was deleted while its image was being fetched", rec.Name)
	}
	return plainStep(err)
}

// imageOf is the image that a VM has, or, if that is in no cache any more, what
// its name stands for now.
func (m *Manager) imageOf(ctx context.Context, rec banger.Record, report banger.ProgressFunc) (banger.Image, error) {
	image, err := m.Images.Resolve(ctx, rec.ImageDigest, report)
	if banger.KindOf(err) == banger.KindNotFound {
		return m.Images.Resolve(ctx, rec.Spec.Image, report)
	}
	return image, err
}

// endRun ends a VM's run if there is one, without asking the guest, and settles it.
func (m *Manager) endRun(ctx context.Context, rec *banger.Record) error {
	if !m.alive(rec.ID) {
		m.settle(ctx, rec)
		return nil
	}
	var answered bool
	err := m.Steps.Run(ctx, rec.ID, m.wantStopped("reset.intent", rec),
		steps.Step{Name: "reset.kill", Do: func(ctx context.Context) error {
			answered = m.interrupt(ctx, *rec)
			return nil
		}})
	if err != nil {
		return plainStep(err)
	}
	_, _, err = m.ended(ctx, rec, Outcome{}, answered)
	return err
}

// setImage writes to the row which image a fresh system disk lies over.
func (m *Manager) setImage(ctx context.Context, rec banger.Record, image banger.Image) (banger.Record, error) {
	return m.Rows.Update(ctx, rec.ID, func(r *banger.Record) error {
		r.ImageDigest, r.Spec = image.Digest, r.Spec.Fitting(image.Size)
		return nil
	}, func(r banger.Record) banger.Event {
		e := eventOf(ctx, banger.EventVMReset, r)
		e.Detail = map[string]string{"image": r.Spec.Image}
		return e
	})
}
