package crashtest

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/config"
	"banger.dev/banger/internal/daemon"
	"banger.dev/banger/internal/daemon/fault"
	"banger.dev/banger/internal/lifecycle"
	"banger.dev/banger/internal/monitor"
	"banger.dev/banger/internal/paths"
	"banger.dev/banger/internal/steps"
	"banger.dev/banger/internal/vmm"
	"banger.dev/banger/internal/vmm/vmmtest"
	"banger.dev/banger/internal/vmm/vmmtest/fakeguest"
)

const (
	// patience bounds what takes a moment on an idle host.
	patience = 2 * time.Minute
	// maxPause is how long is waited at most between two looks at something.
	maxPause = 100 * time.Millisecond
)

// TestMain makes this binary a bangerd when a client or a bangerd starts it. Such
// a bangerd is the real one but for its VMM, so no program that ships has the
// fake.
func TestMain(m *testing.M) {
	switch {
	case len(os.Args) > 1 && os.Args[1] == "monitor":
		os.Exit(code(beMonitor()))
	case os.Getenv(fault.Variable) != "":
		os.Exit(code(beDaemon()))
	}
	flag.Parse()
	os.Exit(m.Run())
}

func code(err error) int {
	if err != nil {
		_, _ = os.Stderr.WriteString(err.Error() + "\n")
		return 1
	}
	return 0
}

func beMonitor() error {
	syscall.Umask(0o077)
	drivers := map[banger.VMM]vmm.Driver{vmmtest.NameFake: vmmtest.Fake{Guest: fakeguest.Play}}
	return monitor.Run(context.Background(), drivers, os.Stdin, os.Stdout, slog.New(slog.NewTextHandler(os.Stderr, nil)))
}

func beDaemon() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := daemon.Settle(); err != nil {
		return err
	}
	layout, err := paths.FromEnv(os.Getenv)
	if err != nil {
		return err
	}
	load := func() (config.Config, error) { return config.Load(layout.ConfigFile(), os.LookupEnv) }
	settings, err := load()
	if err != nil {
		return err
	}
	level := new(slog.LevelVar)
	return daemon.Run(ctx, daemon.Config{
		Layout: layout, Settings: settings, Reload: load, Platform: platform,
		Steps: steps.Runner{Fault: fault.Dir(os.Getenv(fault.Variable)).Faults(layout)},
		Log:   slog.New(slog.NewTextHandler(daemon.NewLog(layout), &slog.HandlerOptions{Level: level})), Level: level,
	})
}

// platform is a host whose VMM is the fake: a machine is a cat that waits for the
// end of its input.
func platform() lifecycle.Platform {
	cat, err := exec.LookPath("cat")
	return lifecycle.Platform{
		Host: banger.Host{CPUs: 2, Memory: 64 * banger.GiB}, VMM: vmmtest.NameFake, Binary: cat, Missing: err,
		Version: "1", Accel: "tcg", Machine: "fake", CPU: "fake",
		RunAs: func(string) (uid, gid uint32, ok bool) { return 0, 0, false },
	}
}

// eventually repeats check until it gives nil, and returns its last error when
// patience ends.
func eventually(check func() error) error {
	deadline := time.Now().Add(patience)
	for pause := time.Millisecond; ; pause = min(2*pause, maxPause) {
		err := check()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(pause)
	}
}

// within gives f a context that ends with patience.
func within[T any](f func(ctx context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	v, err := f(ctx)
	if ctx.Err() != nil {
		err = errors.Join(errors.New("it hangs"), err)
	}
	return v, err
}
