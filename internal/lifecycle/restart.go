package lifecycle

import (
	"context"
	"errors"
	"time"

	"banger.dev/banger"
)

// RestartOptions are what a user can say of one restart.
type RestartOptions struct {
	StartOptions
	StopTimeout time.Duration // until the guest is killed; 0 is DefaultStopTimeout
}

// Restart stops a VM as Stop does and boots it again as Start does; one that is
// stopped is booted. What stands against the start is found before anything is
// stopped. A daemon that dies in between leaves it stopped.
func (m *Manager) Restart(ctx context.Context, ref string, opts RestartOptions, report banger.ProgressFunc) (banger.Detail, Outcome, error) {
	rec, out, err := m.restart(ctx, ref, opts, report)
	if err != nil {
		return banger.Detail{}, Outcome{}, err
	}
	if err := m.awaitInit(ctx, rec, opts.StartOptions); err != nil {
		return banger.Detail{}, Outcome{}, err
	}
	return m.detail(ctx, rec), out, nil
}

// restart does the part of Restart for which the VM's lock is held.
func (m *Manager) restart(ctx context.Context, ref string, opts RestartOptions, report banger.ProgressFunc) (banger.Record, Outcome, error) {
	rec, unlock, err := m.locked(ctx, ref)
	if err != nil {
		return rec, Outcome{}, err
	}
	defer unlock()
	if _, err := m.judge(verbRestart, rec); err != nil {
		return rec, Outcome{}, err
	}
	if rec.Spec.Ephemeral {
		return rec, Outcome{}, errEphemeral(rec)
	}
	booting, booted, err := m.admit(ctx, rec, opts.Overcommit)
	if err != nil {
		return rec, Outcome{}, err
	}
	defer booted()
	out, err := m.halted(booting, &rec, opts.StopTimeout, report)
	switch {
	case errors.Is(context.Cause(booting), errKilled):
		return rec, Outcome{}, banger.Errorf(banger.KindCancelled, "VM %s was killed while it was being restarted", rec.Name)
	case err != nil:
		return rec, Outcome{}, err
	}
	return rec, out, m.boot(booting, &rec, opts.StartOptions, report)
}

// halted is the first half of a restart.
func (m *Manager) halted(ctx context.Context, rec *banger.Record, timeout time.Duration, report banger.ProgressFunc) (Outcome, error) {
	if !m.alive(rec.ID) {
		m.settle(ctx, rec)
		return Outcome{Changed: true}, nil
	}
	report.Report(banger.Progress{Stage: "stop", Message: "stop " + rec.Name})
	_, out, err := m.halt(ctx, rec, timeout)
	return out, err
}

// errEphemeral refuses what only a VM can have that outlives its run.
func errEphemeral(rec banger.Record) error {
	return banger.Errorf(banger.KindConflict, "VM %s was made with --rm: it is deleted as soon as it stops", rec.Name).
		WithNext("banger vm delete --force %s", rec.Name)
}
