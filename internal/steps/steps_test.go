package steps_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"banger.dev/banger/internal/steps"
)

// trace is what happened, in order.
type trace []string

func (t *trace) add(s string)   { *t = append(*t, s) }
func (t *trace) String() string { return strings.Join(*t, ", ") }

// step is one that leaves its name in the trace, and ends with err.
func (t *trace) step(name string, err error) steps.Step {
	return steps.Step{Name: name, Do: func(context.Context) error {
		t.add(name)
		return err
	}}
}

func TestPointsAreBeforeAndAfterEachEffect(t *testing.T) {
	var done trace
	r := steps.Runner{Fault: func(at steps.Point) error {
		done.add(at.String() + " of " + at.Of)
		return nil
	}}
	if err := r.Run(t.Context(), "dev", done.step("make.one", nil), done.step("make.two", nil)); err != nil {
		t.Error(err)
	}
	want := "before make.one of dev, make.one, after make.one of dev, before make.two of dev, make.two, after make.two of dev"
	if done.String() != want {
		t.Errorf("done: %s\nwant: %s", done.String(), want)
	}
}

func TestFaultFailsItsStep(t *testing.T) {
	fault := errors.New("a fault")
	for point, want := range map[string]string{
		"before make.two": "make.one",
		"after make.two":  "make.one, make.two",
	} {
		var done trace
		r := steps.Runner{Fault: func(at steps.Point) error {
			if at.String() == point {
				return fault
			}
			return nil
		}}
		err := r.Run(t.Context(), "dev", done.step("make.one", nil), done.step("make.two", nil), done.step("make.three", nil))
		if !errors.Is(err, fault) || err.Error() != "make.two: a fault" {
			t.Errorf("a fault %s: the error is %v", point, err)
		}
		if done.String() != want {
			t.Errorf("a fault %s: done: %s", point, done.String())
		}
	}
}

func TestErrorNamesItsStep(t *testing.T) {
	cause := errors.New("no space left")
	var done trace
	err := steps.Runner{}.Run(t.Context(), "dev", done.step("create.row", nil), done.step("create.disks", cause), done.step("create.start", nil))
	if !errors.Is(err, cause) || err.Error() != "create.disks: no space left" {
		t.Errorf("the error is %v", err)
	}
	if got := steps.Cause(err); got != cause {
		t.Errorf("without the step's name it is %v", got)
	}
	if done.String() != "create.row, create.disks" {
		t.Errorf("done: %s", done.String())
	}
}

func TestEndOfContextComesBetweenSteps(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	later := false
	err := steps.Runner{}.Run(ctx, "dev",
		steps.Step{Name: "start.one", Do: func(context.Context) error { cancel(); return nil }},
		steps.Step{Name: "start.two", Do: func(context.Context) error { later = true; return nil }})
	if !errors.Is(err, context.Canceled) || later {
		t.Errorf("the error is %v; a step was done after the end: %t", err, later)
	}
}
