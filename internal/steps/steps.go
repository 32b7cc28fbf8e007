// Package steps names the steps of a verb and runs them in order. A step that
// fails names itself in the error; there is no undo stack: the verb's teardown
// cleans up after every step alike. Before and after each step is a point at
// which a test can make something die or fail; what can, is no part of this
// package.
package steps

import (
	"context"
	"errors"
)

// Step is one named thing to do.
type Step struct {
	Name string // "verb.thing"
	Do   func(ctx context.Context) error
}

// Point is a moment in a verb.
type Point struct {
	Of    string // what the verb is about, such as a VM's id
	Step  string
	After bool // the step's effect is there
}

func (p Point) String() string {
	if p.After {
		return "after " + p.Step
	}
	return "before " + p.Step
}

// failure is the error of a step.
type failure struct {
	step string
	err  error
}

func (f *failure) Error() string { return f.step + ": " + f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// Cause is why a step failed, without its name; another error as it is.
func Cause(err error) error {
	if f := (*failure)(nil); errors.As(err, &f) {
		return f.err
	}
	return err
}

// Runner runs steps. The zero value has no faults.
type Runner struct {
	// Fault is called before and after the effect of each step; an error makes the
	// step fail there.
	Fault func(at Point) error
}

// Run does the steps of a verb about of, in order, until one fails or ctx ends.
func (r Runner) Run(ctx context.Context, of string, list ...Step) error {
	for _, s := range list {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := r.do(ctx, of, s); err != nil {
			return &failure{s.Name, err}
		}
	}
	return nil
}

// RunUnnamed is Run for steps that are named for tests alone, and not in errors.
func (r Runner) RunUnnamed(ctx context.Context, of string, list ...Step) error {
	return Cause(r.Run(ctx, of, list...))
}

func (r Runner) do(ctx context.Context, of string, s Step) error {
	if err := r.fault(Point{Of: of, Step: s.Name}); err != nil {
		return err
	}
	if err := s.Do(ctx); err != nil {
		return err
	}
	return r.fault(Point{Of: of, Step: s.Name, After: true})
}

func (r Runner) fault(at Point) error {
	if r.Fault == nil {
		return nil
	}
	return r.Fault(at)
}
