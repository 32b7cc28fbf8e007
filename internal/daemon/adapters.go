package daemon

import (
	"context"
	"errors"
	"os"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/du"
	"banger.dev/banger/internal/lifecycle"
	"banger.dev/banger/internal/monitor"
	"banger.dev/banger/internal/proc"
	"banger.dev/banger/internal/publish"
)

// Hold, Keep and Release are lifecycle.Cache.
func (c cache) Hold(ctx context.Context, rec banger.Record, dir string) error {
	if err := c.images.Hold(ctx, rec.ImageDigest, dir); err != nil {
		return err
	}
	if rec.Spec.Work != 0 {
		if err := c.images.HoldTemplate(ctx, rec.Spec.Work, dir); err != nil {
			return err
		}
	}
	return c.kernels.Hold(ctx, rec.KernelDigest, dir)
}

func (c cache) Keep(rec banger.Record, dir string) error {
	return errors.Join(c.images.Keep(rec.ImageDigest, dir), c.kernels.Keep(rec.KernelDigest, dir))
}

func (c cache) Release(dir string) error {
	return errors.Join(c.images.Release(dir), c.kernels.Release(dir))
}

// monitors is lifecycle's view of package monitor.
type monitors struct{ spawner monitor.Spawner }

func (m monitors) Spawn(ctx context.Context, order monitor.Order) (monitor.Status, error) {
	return m.spawner.Spawn(ctx, order)
}
func (monitors) Connect(socket string) lifecycle.Monitor { return monitor.Connect(socket) }
func (monitors) Held(lock string) (bool, error)          { return monitor.Held(lock) }

// ports is lifecycle's view of package publish.
type ports struct{}

func (ports) Probe(p banger.Port) error       { return publish.Probe(p) }
func (ports) Free(p banger.Port) (int, error) { return publish.Free(p) }

// meter is lifecycle's view of packages proc and du.
type meter struct{}

func (meter) Process(pid int, start uint64) (time.Duration, banger.Bytes, error) {
	u, err := proc.UsageOf(pid)
	if err == nil && !proc.Alive(pid, start) {
		err = os.ErrProcessDone
	}
	return u.CPU, banger.Bytes(u.RSS), err
}

func (meter) Allocated(path string) (banger.Bytes, error) { return new(du.Counter).Tree(path) }

// processes is lifecycle's view of package proc.
type processes struct{}

func (processes) Kill(pid int, start uint64, timeout time.Duration) error {
	return proc.Kill(pid, start, timeout)
}
func (processes) StartTime(pid int) (uint64, error) { return proc.StartTime(pid) }
func (processes) BootID() (string, error)           { return proc.BootID() }
