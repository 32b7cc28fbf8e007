package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// idleSpan is how long things are left alone: the bounds speak of a minute.
const idleSpan = 60 * time.Second

// disk measures what one more VM takes, new and after a minute of idling.
func (b *bench) disk(ctx context.Context) error {
	const name = "bench-disk"
	if err := b.banger(ctx, "vm", "create", "--name", name).Run(); err != nil {
		return err
	}
	d, err := b.show(ctx, name)
	if err != nil {
		return err
	}
	made, err := allocated(d.Paths["dir"])
	if err != nil {
		return err
	}
	if err := b.banger(ctx, "vm", "start", name).Run(); err != nil {
		return err
	}
	time.Sleep(idleSpan)
	booted, err := allocated(d.Paths["dir"])
	if err != nil {
		return err
	}
	b.report.compare("disk of a VM at creation", "MiB", made, 0, 1, true)
	b.report.compare("disk of a VM after boot and 60 s", "MiB", booted, 0, 16, true)
	return b.banger(ctx, "vm", "delete", "--force", name).Run()
}

// allocated is what the files below dir take, in MiB.
func allocated(dir string) (float64, error) {
	var blocks int64
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		blocks += info.Sys().(*syscall.Stat_t).Blocks
		return nil
	})
	return float64(blocks) * 512 / (1 << 20), err
}

// idle measures the daemon and a monitor while nothing happens.
func (b *bench) idle(ctx context.Context) error {
	const name = "bench-idle"
	if err := b.banger(ctx, "vm", "run", "--detach", "--name", name).Run(); err != nil {
		return err
	}
	d, err := b.show(ctx, name)
	if err != nil {
		return err
	}
	var status struct{ PID int }
	out, err := b.banger(ctx, "daemon", "status", "-o", "json").Output()
	if err == nil {
		err = json.Unmarshal(out, &status)
	}
	if err != nil {
		return err
	}
	time.Sleep(idleSpan / 2) // let the boot settle
	for _, p := range []struct {
		name string
		pid  int
		rss  float64
	}{{"monitor", d.Handles.MonitorPID, 12}, {"daemon", status.PID, 40}} {
		switches, err := switchesPerSecond(p.pid, idleSpan/2)
		if err != nil {
			return err
		}
		rss, err := residentMiB(p.pid)
		if err != nil {
			return err
		}
		b.report.compare(p.name+" RSS", "MiB", rss, 0, p.rss, true)
		b.report.compare(p.name+" idle context switches", "/s", switches, 0, 1, true)
	}
	return b.banger(ctx, "vm", "delete", "--force", name).Run()
}

// switchesPerSecond counts the voluntary context switches of all threads.
func switchesPerSecond(pid int, span time.Duration) (float64, error) {
	before, err := switches(pid)
	if err != nil {
		return 0, err
	}
	time.Sleep(span)
	after, err := switches(pid)
	return float64(after-before) / span.Seconds(), err
}

func switches(pid int) (int64, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, f := range files {
		n, err := statusField(f, "voluntary_ctxt_switches:")
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

func residentMiB(pid int) (float64, error) {
	kib, err := statusField(fmt.Sprintf("/proc/%d/status", pid), "VmRSS:")
	return float64(kib) / 1024, err
}

// statusField reads a number from a /proc status file.
func statusField(path, field string) (int64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, field); ok {
			return strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
		}
	}
	return 0, fmt.Errorf("%s has no %s", path, field)
}
