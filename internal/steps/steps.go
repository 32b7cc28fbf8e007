// Package steps names the steps of a verb and runs them in order. A step that
// fails names itself in the error; there is no undo stack: the verb's teardown
// cleans up after every step alike. The names are also the points at which a
// test can make a process die or fail.
package steps

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// Step is one named thing to do.
type Step struct {
	Name string // "verb.thing"
	Do   func(ctx context.Context) error
}

// Runner runs steps. The zero value has no faults.
type Runner struct {
	// Fault is called before each step; an error makes the step fail.
	Fault func(step string) error
}

// Run does steps in order until one fails or ctx ends.
func (r Runner) Run(ctx context.Context, list ...Step) error {
	for _, s := range list {
		if err := ctx.Err(); err != nil {
			return err
		}
		if r.Fault != nil {
			if err := r.Fault(s.Name); err != nil {
				return fmt.Errorf("%s: %w", s.Name, err)
			}
		}
		if err := s.Do(ctx); err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
	}
	return nil
}

// Injected reads a fault from a description such as "start.monitor=kill" or
// "create.disks=fail": at that step the process kills itself with SIGKILL, or
// the step fails. An empty description is no fault. It exists for the tests of
// crashes, see CONTRIBUTING.md.
func Injected(description string) (func(step string) error, error) {
	if description == "" {
		return nil, nil
	}
	at, what, ok := strings.Cut(description, "=")
	if !ok || (what != "kill" && what != "fail") {
		return nil, fmt.Errorf("fault %q: must be STEP=kill or STEP=fail", description)
	}
	return func(step string) error {
		if step != at {
			return nil
		}
		if what == "fail" {
			return fmt.Errorf("a fault was asked for")
		}
		return syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}, nil
}
