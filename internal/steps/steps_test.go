package steps_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"banger.dev/banger/internal/steps"
)

// childVariable makes the test binary run three steps with this fault.
const childVariable = "BANGER_STEPS_FAULT"

func TestMain(m *testing.M) {
	if fault, child := os.LookupEnv(childVariable); child {
		os.Exit(runSteps(fault))
	}
	os.Exit(m.Run())
}

// runSteps writes the name of each step that is done.
func runSteps(description string) int {
	fault, err := steps.Injected(description)
	if err != nil {
		_, _ = os.Stderr.WriteString(err.Error())
		return 2
	}
	say := func(name string) steps.Step {
		return steps.Step{Name: name, Do: func(context.Context) error {
			_, err := os.Stdout.WriteString(name + "\n")
			return err
		}}
	}
	if err := (steps.Runner{Fault: fault}).Run(context.Background(), say("make.one"), say("make.two"), say("make.three")); err != nil {
		_, _ = os.Stderr.WriteString(err.Error())
		return 1
	}
	return 0
}

func TestFaults(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		fault  string
		done   string // the steps that were done
		killed bool
		code   int
		says   string
	}{
		{fault: "", done: "make.one make.two make.three"},
		{fault: "make.four=kill", done: "make.one make.two make.three"},
		{fault: "make.two=kill", done: "make.one", killed: true, code: -1},
		{fault: "make.one=kill", killed: true, code: -1},
		{fault: "make.three=fail", done: "make.one make.two", code: 1, says: "make.three: "},
		{fault: "make.two=explode", code: 2, says: `fault "make.two=explode": must be STEP=kill or STEP=fail`},
		{fault: "make.two", code: 2, says: "must be STEP=kill or STEP=fail"},
	} {
		t.Run(test.fault, func(t *testing.T) {
			var out, complaint strings.Builder
			cmd := exec.Command(self)
			cmd.Env = append(os.Environ(), childVariable+"="+test.fault)
			cmd.Stdout, cmd.Stderr = &out, &complaint
			_ = cmd.Run() // how it ended is in its state
			if got := strings.Join(strings.Fields(out.String()), " "); got != test.done {
				t.Errorf("done: %q, not %q", got, test.done)
			}
			ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
			if !ok || ws.Signaled() != test.killed || (test.killed && ws.Signal() != syscall.SIGKILL) || cmd.ProcessState.ExitCode() != test.code {
				t.Errorf("it ended with %v", cmd.ProcessState)
			}
			if !strings.Contains(complaint.String(), test.says) {
				t.Errorf("it says %q, without %q", complaint.String(), test.says)
			}
		})
	}
}

func TestErrorNamesItsStep(t *testing.T) {
	cause := errors.New("no space left")
	done := ""
	step := func(name string, err error) steps.Step {
		return steps.Step{Name: name, Do: func(context.Context) error {
			done += name + " "
			return err
		}}
	}
	err := steps.Runner{}.Run(t.Context(), step("create.row", nil), step("create.disks", cause), step("create.start", nil))
	if !errors.Is(err, cause) || err.Error() != "create.disks: no space left" {
		t.Errorf("the error is %v", err)
	}
	if done != "create.row create.disks " {
		t.Errorf("done: %s", done)
	}
}

func TestEndOfContextComesBetweenSteps(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	later := false
	err := steps.Runner{}.Run(ctx,
		steps.Step{Name: "start.one", Do: func(context.Context) error { cancel(); return nil }},
		steps.Step{Name: "start.two", Do: func(context.Context) error { later = true; return nil }})
	if !errors.Is(err, context.Canceled) || later {
		t.Errorf("the error is %v; a step was done after the end: %t", err, later)
	}
}
