package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
	"banger.dev/banger/internal/client"
	"banger.dev/banger/internal/paths"
)

const (
	fleetVMs     = 1000
	fleetRunning = 100
	atOnce       = 8
)

// fleet measures what must not grow with the number of VMs.
func (b *bench) fleet(ctx context.Context) error {
	return errors.Join(b.costs(ctx), b.longList(ctx), b.startMany(ctx))
}

// costs runs the benchmarks of lifecycle, where monitors and VMMs are fake: a
// create beside 50 VMs and beside 1,000, in turn, and a daemon's start over 50,
// 200 and 800.
func (b *bench) costs(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "Create|Reconcile", "-benchtime", strconv.Itoa(b.rounds*repeats)+"x", "./internal/lifecycle")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("%v: %w: %s", cmd.Args, err, out)
	}
	ms := metricsOf(string(out))
	for _, what := range []string{"Create/stopped", "Create/started"} {
		b.report.compare(strings.ToLower(what)+" beside 1,000 VMs / beside 50", "ms", ms[what+" n=1000"], ms[what+" n=50"], 1.3, true)
	}
	b.report.compare("reconcile of 200 VMs, half of them running / of 50, four times", "ms", ms["Reconcile n=200"], 4*ms["Reconcile n=50"], 1.3, true)
	b.report.compare("reconcile of 800 VMs / of 200, four times", "ms", ms["Reconcile n=800"], 4*ms["Reconcile n=200"], 1.3, true)
	return nil
}

// metricsOf are the milliseconds that benchmarks report, by the benchmark's name
// without "Benchmark" and the number of VMs: "ms/n=50".
func metricsOf(out string) map[string]float64 {
	ms := map[string]float64{}
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		if len(fields) == 0 || !strings.HasPrefix(fields[0], "Benchmark") {
			continue
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(fields[0], "Benchmark"), "-")
		for i := 2; i+1 < len(fields); i += 2 {
			if _, n, ok := strings.Cut(fields[i+1], "ms/"); ok {
				ms[name+" "+n], _ = strconv.ParseFloat(fields[i], 64) // what go test prints is a number
			}
		}
	}
	return ms
}

// longList compares a list of 1,000 VMs, of which 100 run, with ls of as many
// directories. What is known of a VM that runs is that its lock is held.
func (b *bench) longList(ctx context.Context) error {
	ids, err := b.createMany(ctx, fleetVMs)
	if err != nil {
		return err
	}
	var locks []*os.File
	defer func() {
		for _, f := range locks {
			_ = f.Close()
		}
	}()
	dirs := filepath.Join(b.home, "dirs")
	for i, id := range ids {
		if err := os.MkdirAll(filepath.Join(dirs, id), 0o700); err != nil {
			return err
		}
		if i%(fleetVMs/fleetRunning) != 0 {
			continue
		}
		lock, err := hold(b.layout().VM(id).Lock())
		if err != nil {
			return err
		}
		locks = append(locks, lock)
	}
	var lists, floors []float64
	for range b.rounds * repeats {
		for _, m := range []struct {
			cmd  *exec.Cmd
			into *[]float64
		}{{b.banger(ctx, "vm", "list"), &lists}, {exec.CommandContext(ctx, "ls", "-l", dirs), &floors}} {
			s, err := seconds(m.cmd.Run)
			if err != nil {
				return fmt.Errorf("%v: %w", m.cmd.Args, err)
			}
			*m.into = append(*m.into, s)
		}
	}
	b.report.compare("list of 1,000 VMs, 100 running / ls -l of 1,000 directories", "s", median(lists), median(floors), 20, true)
	for _, f := range locks {
		_ = f.Close()
	}
	return b.forget(ctx, ids)
}

func (b *bench) layout() paths.Layout {
	return paths.Layout{State: filepath.Join(b.home, "state"), Run: filepath.Join(b.home, "run"), Cache: b.cache}
}

// createMany makes stopped VMs, and gives their ids.
func (b *bench) createMany(ctx context.Context, n int) ([]string, error) {
	ids, errs := make([]string, n), make([]error, n)
	var wg sync.WaitGroup
	turns := make(chan struct{}, runtime.NumCPU())
	for i := range n {
		turns <- struct{}{}
		wg.Go(func() {
			defer func() { <-turns }()
			c, err := client.Connect(ctx, b.layout(), client.Autostart{Disabled: true})
			if err != nil {
				errs[i] = err
				return
			}
			defer c.Close()
			op, err := c.CreateVM(ctx, api.CreateRequest{Name: fmt.Sprint("fleet-", i), Spec: banger.Spec{Work: banger.DefaultWork}}, nil)
			if errs[i] = err; err == nil {
				ids[i] = op.Result.ID
			}
		})
	}
	wg.Wait()
	return ids, errors.Join(errs...)
}

// hold takes a VM's lock as its monitor does.
func hold(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	return f, unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
}

// startMany compares the start of 8 VMs at once with that of one.
func (b *bench) startMany(ctx context.Context) error {
	names := make([]string, atOnce)
	for i := range names {
		names[i] = fmt.Sprint("at-once-", i)
		if err := b.banger(ctx, "vm", "create", "--init", "none", "--memory", "256MiB", "--name", names[i]).Run(); err != nil {
			return err
		}
	}
	var all, single []float64
	for range b.rounds {
		for _, m := range []struct {
			names []string
			into  *[]float64
		}{{names, &all}, {names[:1], &single}} {
			s, err := seconds(func() error { return b.startAll(ctx, m.names) })
			if err != nil {
				return err
			}
			*m.into = append(*m.into, s)
			if err := b.banger(ctx, append([]string{"vm", "kill"}, m.names...)...).Run(); err != nil {
				return err
			}
		}
	}
	b.report.compare("8 VMs started at once / one", "s", median(all), median(single), 1.5*atOnce/float64(runtime.NumCPU()), true)
	return b.forget(ctx, names)
}

// startAll starts VMs at once, each from a command line of its own.
func (b *bench) startAll(ctx context.Context, names []string) error {
	errs := make([]error, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() {
			if out, err := b.banger(ctx, "vm", "start", name).CombinedOutput(); err != nil {
				errs[i] = fmt.Errorf("start %s: %w: %s", name, err, out)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
