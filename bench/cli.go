package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"banger.dev/banger"
)

// repeats is how often a round runs what takes only milliseconds.
const repeats = 10

// version compares the start of banger with that of a program that does nothing.
func (b *bench) version(ctx context.Context) error {
	empty, err := b.emptyProgram(ctx)
	if err != nil {
		return err
	}
	var ours, floors []float64
	for range b.rounds * repeats {
		for _, m := range []struct {
			cmd  *exec.Cmd
			into *[]float64
		}{{b.banger(ctx, "version"), &ours}, {exec.CommandContext(ctx, empty), &floors}} {
			s, err := seconds(m.cmd.Run)
			if err != nil {
				return fmt.Errorf("%v: %w", m.cmd.Args, err)
			}
			*m.into = append(*m.into, s)
		}
	}
	b.report.compare("banger version / an empty program", "s", median(ours), median(floors), 3, true)
	return nil
}

// emptyProgram builds a static Go program that does nothing, as banger is built:
// scripts/build says why it is a copy.
func (b *bench) emptyProgram(ctx context.Context) (string, error) {
	source, linked, program := filepath.Join(b.home, "empty.go"), filepath.Join(b.home, "linked"), filepath.Join(b.home, "empty")
	if err := os.WriteFile(source, []byte("package main\n\nfunc main() {}\n"), 0o600); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", linked, source)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the empty program: %w: %s", err, out)
	}
	if out, err := exec.CommandContext(ctx, "cp", linked, program).CombinedOutput(); err != nil {
		return "", fmt.Errorf("copy the empty program: %w: %s", err, out)
	}
	return program, nil
}

// manyVMs is how many a list is measured with.
const manyVMs = 100

// list compares a list of many stopped VMs with one of a single VM, of another
// daemon with a home of its own.
func (b *bench) list(ctx context.Context) (err error) {
	home, err := os.MkdirTemp("", "bng-")
	if err != nil {
		return err
	}
	single := *b
	single.home = home
	defer func() { err = errors.Join(err, single.close()) }()
	if err := single.banger(ctx, "vm", "create", "--name", "one").Run(); err != nil {
		return err
	}
	names := make([]string, manyVMs)
	for i := range names {
		names[i] = "many-" + strconv.Itoa(i)
		if err := b.banger(ctx, "vm", "create", "--name", names[i]).Run(); err != nil {
			return fmt.Errorf("create %s: %w", names[i], err)
		}
	}
	var many, floors []float64
	for range b.rounds * repeats {
		for _, m := range []struct {
			b    *bench
			into *[]float64
		}{{b, &many}, {&single, &floors}} {
			s, err := seconds(m.b.banger(ctx, "vm", "list").Run)
			if err != nil {
				return err
			}
			*m.into = append(*m.into, s)
		}
	}
	b.report.compare("list with 100 VMs / with one", "s", median(many), median(floors), 3, true)
	return b.forget(ctx, names)
}

// forget deletes VMs, and fails if they leave anything.
func (b *bench) forget(ctx context.Context, names []string) error {
	if err := b.banger(ctx, append([]string{"vm", "delete"}, names...)...).Run(); err != nil {
		return fmt.Errorf("delete %d VMs: %w", len(names), err)
	}
	var vms []banger.VM
	out, err := b.banger(ctx, "vm", "list", "-o", "json").Output()
	if err == nil {
		err = json.Unmarshal(out, &vms)
	}
	left, gerr := filepath.Glob(filepath.Join(b.home, "*", "vms", "*"))
	if err = errors.Join(err, gerr); err == nil && len(vms)+len(left) > 0 {
		err = fmt.Errorf("%d VMs and %d directories are left", len(vms), len(left))
	}
	return err
}
