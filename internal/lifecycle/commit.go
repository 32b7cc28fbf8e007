package lifecycle

import (
	"context"
	"errors"
	"io"

	"banger.dev/banger"
	"banger.dev/banger/internal/disk"
	"banger.dev/banger/internal/steps"
)

// Commit makes an image of what a stopped VM's system disk holds, and gives it a
// local name. The work disk is no part of it, and the VM stays as it is.
//
// The image comes before its name: whoever dies in between leaves one that a
// prune takes away, and that the next commit finds.
func (m *Manager) Commit(ctx context.Context, ref, name string, report banger.ProgressFunc) (banger.Image, error) {
	rec, unlock, err := m.locked(ctx, ref)
	if err != nil {
		return banger.Image{}, err
	}
	defer unlock()
	if err := banger.ValidateImageName(name); err != nil {
		return banger.Image{}, err
	}
	if _, err := m.judge(verbCommit, rec); err != nil {
		return banger.Image{}, err
	}
	ctx, done := m.begin(ctx, m.creating, rec.ID)
	defer done()
	image, err := m.commit(ctx, rec, name, report)
	if errors.Is(context.Cause(ctx), errDeleted) {
		return image, banger.Errorf(banger.KindCancelled, "VM %s was deleted while an image was made of it", rec.Name)
	}
	return image, plainStep(err)
}

func (m *Manager) commit(ctx context.Context, rec banger.Record, name string, report banger.ProgressFunc) (image banger.Image, err error) {
	err = m.Steps.Run(ctx, rec.ID,
		steps.Step{Name: "commit.image", Do: func(ctx context.Context) error {
			below, err := m.Images.Resolve(ctx, rec.ImageDigest, report)
			if err != nil {
				return err
			}
			base := disk.Base{Path: below.RootFS, Size: below.Size}
			image, err = m.Images.Commit(ctx, rec.Name, below, rec.Spec.Disk, func(ctx context.Context, w io.WriterAt) error {
				return m.Disks.Flatten(ctx, base, m.files(rec.ID).SystemDisk(m.Disks.Ext()), w)
			}, report)
			return err
		}},
		steps.Step{Name: "commit.name", Do: func(context.Context) error {
			image.Name = name
			return m.Images.Name(name, image.Digest)
		}},
	)
	return image, err
}
