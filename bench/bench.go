package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/doctor"
)

// bench is one run in a BANGER_HOME of its own, on the shared test cache.
type bench struct {
	report Report
	rounds int
	bin    string // absolute
	home   string
	cache  string
	host   doctor.Host
	enter  []string // words before every command of banger
}

func newBench(ctx context.Context, rounds int, bin string) (*bench, error) {
	abs, err := filepath.Abs(bin)
	if err != nil {
		return nil, err
	}
	user, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	home, err := os.MkdirTemp("", "bng-")
	if err != nil {
		return nil, err
	}
	host, err := doctor.Probe()
	if err != nil {
		return nil, err
	}
	b := &bench{rounds: rounds, bin: abs, home: home, cache: filepath.Join(user, "banger-test"), host: host}
	b.report = Report{Time: time.Now(), Accel: host.Accel(), CPUs: runtime.NumCPU(), Rounds: rounds}
	// The first run pulls what is not cached and warms the page cache.
	return b, b.banger(ctx, "vm", "run", "--rm", "--", "true").Run()
}

// close deletes the VMs that are left, ends the daemon and removes the home.
func (b *bench) close() error {
	ctx := context.Background()
	var vms []banger.VM
	out, err := b.banger(ctx, "vm", "list", "-o", "json").Output()
	if err == nil {
		err = json.Unmarshal(out, &vms)
	}
	errs := []error{err}
	for _, vm := range vms {
		errs = append(errs, b.banger(ctx, "vm", "delete", "--force", vm.ID).Run())
	}
	errs = append(errs, b.banger(ctx, "daemon", "stop").Run(), os.RemoveAll(b.home))
	return errors.Join(errs...)
}

func (b *bench) banger(ctx context.Context, args ...string) *exec.Cmd {
	words := slices.Concat(b.enter, []string{filepath.Join(b.bin, "banger")}, args)
	cmd := exec.CommandContext(ctx, words[0], words[1:]...) //nolint:gosec // these are ours
	cmd.Env = append(os.Environ(), "BANGER_HOME="+b.home, "BANGER_CACHE="+b.cache)
	return cmd
}

func (b *bench) show(ctx context.Context, name string) (banger.Detail, error) {
	var d banger.Detail
	out, err := b.banger(ctx, "vm", "show", "-o", "json", name).Output()
	if err != nil {
		return d, fmt.Errorf("show %s: %w", name, err)
	}
	return d, json.Unmarshal(out, &d)
}
