// Package daemon is bangerd's main line: lock, open, wire, reconcile, serve,
// and stop in reverse. It is the only place that knows which implementation
// stands behind which interface.
package daemon

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/apt"
	"banger.dev/banger/internal/config"
	"banger.dev/banger/internal/disk/qcow2"
	"banger.dev/banger/internal/event"
	"banger.dev/banger/internal/image"
	"banger.dev/banger/internal/ipc"
	"banger.dev/banger/internal/kernel"
	"banger.dev/banger/internal/lifecycle"
	"banger.dev/banger/internal/metrics"
	"banger.dev/banger/internal/monitor"
	"banger.dev/banger/internal/operation"
	"banger.dev/banger/internal/paths"
	"banger.dev/banger/internal/request"
	"banger.dev/banger/internal/server"
	"banger.dev/banger/internal/steps"
	"banger.dev/banger/internal/store"
	"banger.dev/banger/internal/version"
)

// stopTimeout bounds how long a daemon that was told to stop waits for the
// requests under way.
const stopTimeout = 5 * time.Second

// Config is what a daemon is told.
type Config struct {
	Layout   paths.Layout
	Settings config.Config
	// Reload reads the settings anew; it is called at each SIGHUP.
	Reload func() (config.Config, error)
	Steps  steps.Runner // without faults but in tests
	// Platform is what this host offers; nil: as it is, with QEMU.
	Platform func() lifecycle.Platform
	Log      *slog.Logger
	Level    *slog.LevelVar // of Log
}

// Run is the daemon, until ctx ends or a client stops it. VMs stay as they are.
func Run(ctx context.Context, cfg Config) (err error) {
	cfg.Log = slog.New(request.LogHandler(cfg.Log.Handler()))
	l := cfg.Layout
	for _, dir := range []string{l.State, l.Run} {
		if err := ipc.PrivateDir(dir); err != nil {
			return err
		}
	}
	for _, dir := range []string{l.VMs(), l.RunVMs(), l.Cache} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return banger.Errorf(banger.KindUnavailable, "make the directory %s: %w", dir, err).WithNext("ls -ld %s", filepath.Dir(dir))
		}
	}
	lock, err := takeLock(ctx, l)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	db, err := store.Open(ctx, l.Database(), cfg.Log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	events := &event.Log{Owner: os.Getuid(), Rows: db, Log: cfg.Log}
	settings := newSettings(cfg, func() { events.Emit(ctx, banger.Event{Type: banger.EventConfigReloaded}) })
	defer settings.follow()()
	cached := openCache(cfg, settings)
	observed := &observation{events: events}
	vms, err := wire(cfg, settings, db, cached, observed)
	if err != nil {
		return err
	}
	defer vms.Close()
	observed.metrics = metrics.New(version.String(), time.Now(), vms)
	if err := vms.Reconcile(ctx); err != nil {
		cfg.Log.Error("not every VM could be brought up to date", "err", err)
	}
	events.Emit(ctx, banger.Event{Type: banger.EventDaemonStarted, Detail: map[string]string{"version": version.String(), "pid": strconv.Itoa(os.Getpid())}})
	defer func() { events.Emit(ctx, banger.Event{Type: banger.EventDaemonStopped}) }()
	return serve(ctx, cfg, settings, vms, newExaminer(l, db, vms, cached), observed)
}

// lockPatience is how long a daemon that is just ending may keep the lock: it
// answers first, and settles what is just ending too.
const lockPatience = stopTimeout + 25*time.Second

// takeLock makes this the only daemon of its state directory.
func takeLock(ctx context.Context, l paths.Layout) (*ipc.Held, error) {
	ctx, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	lock, err := ipc.LockWait(ctx, l.DaemonLock())
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, banger.Errorf(banger.KindConflict, "another bangerd serves %s", l.State).WithNext("banger daemon status")
	}
	return lock, err
}

// cache is what VMs are made of.
type cache struct {
	images  *image.Store
	kernels *kernel.Store
	archive *apt.Root
}

func openCache(cfg Config, settings *settings) cache {
	root := apt.New(cfg.Layout.Apt(), apt.Suite, settings.archive(), cfg.Log)
	kernels := kernel.New(cfg.Layout, root, kernel.EmbeddedAgent(), cfg.Log)
	kernels.Archives = func(r kernel.Release) kernel.Packages {
		return apt.New(cfg.Layout.Apt(), r.Suite, apt.DetectFor(r.Distribution), cfg.Log)
	}
	images := image.New(cfg.Layout, settings.images)
	images.Steps, kernels.Steps = cfg.Steps, cfg.Steps
	return cache{images: images, kernels: kernels, archive: root}
}

// sweep removes, while the daemon serves, what earlier ones have left half-made,
// until ctx ends; then the channel is closed.
func (c cache) sweep(ctx context.Context, log *slog.Logger) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		err := errors.Join(c.images.Sweep(ctx), c.kernels.Sweep(ctx), c.archive.Sweep(ctx))
		if err != nil && ctx.Err() == nil {
			log.WarnContext(ctx, "what was left half-made in the cache is still there", "err", err)
		}
	}()
	return done
}

// wire puts the parts together.
func wire(cfg Config, settings *settings, db *store.DB, cached cache, observed *observation) (*lifecycle.Manager, error) {
	binary, err := os.Executable()
	if err != nil {
		return nil, err
	}
	platform := cfg.Platform
	if platform == nil {
		platform = newPlatform()
	}
	return lifecycle.New(lifecycle.Deps{
		Owner:     os.Getuid(),
		Layout:    cfg.Layout,
		Platform:  platform,
		Network:   settings.network,
		Rows:      db,
		Images:    cached.images,
		Kernels:   cached.kernels,
		Cache:     cached,
		Events:    observed.events,
		Booted:    observed.booted,
		Disks:     qcow2.Driver{},
		Monitors:  monitors{monitor.Spawner{Binary: binary}},
		Processes: processes{},
		Ports:     ports{},
		Meter:     meter{},
		Steps:     cfg.Steps,
		Log:       cfg.Log,
	}), nil
}

// serve answers until ctx ends or a client asks for the end.
func serve(ctx context.Context, cfg Config, settings *settings, vms *lifecycle.Manager, home examiner, observed *observation) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ops := operation.New[server.Result](cfg.Log)
	listener, err := ipc.Listen(cfg.Layout.DaemonSocket())
	if err != nil {
		return err
	}
	srv := server.New(server.Config{
		VMs: vms, Images: images{home.images}, Kernels: home.kernels, Doctor: home, Space: home.space, Operations: ops,
		Events: observed.events, Metrics: observed.metrics, Stop: stop,
		Version: version.String(), Build: version.This(), PID: os.Getpid(), Since: time.Now(), Log: cfg.Log,
	})
	clocks, swept := keepClocks(ctx, vms, cfg.Log), home.sweep(ctx, cfg.Log)
	defer func() { <-clocks; <-swept }()
	defer stop()
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(listener) }()
	idle := idler{server: srv, operations: ops.Running, alive: vms.Alive, timeout: settings.idleTimeout, log: cfg.Log}
	go idle.run(ctx, stop)
	born()
	cfg.Log.Info("serving", "socket", cfg.Layout.DaemonSocket(), "pid", os.Getpid())
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	srv.Leave()
	return shutdown(srv, ops, failed)
}

// shutdown ends operations, which ends their streams, then the server.
func shutdown(srv *server.Server, ops *operation.Registry[server.Result], failed <-chan error) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	return errors.Join(ops.Shutdown(ctx), srv.Shutdown(ctx), <-failed)
}
