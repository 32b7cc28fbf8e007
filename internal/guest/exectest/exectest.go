// Package exectest says what running a command must be like, as one table of
// cases that is run against anything that runs commands: the agent's exec port
// within the test, a real VM through the command line, and, as the reference
// that keeps the table honest, a plain local process or podman. docs/exec.md
// lists what the cases call a difference.
package exectest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"banger.dev/banger/internal/guest"
)

// Call is one command to run.
type Call struct {
	Argv, Env      []string
	Dir, User      string
	TTY            bool
	Rows, Cols     uint16
	Stdin          io.Reader // nil: empty
	Stdout, Stderr io.Writer
	Resize         <-chan guest.Size
	Signals        <-chan int
}

// Target runs commands. What it says it cannot do is not asked of it.
type Target struct {
	Name string // agent, vm, local or podman: the keys of Case.Differs
	// Run gives the exit code as the caller of the target sees it: 128+N for
	// signal N, 126 and 127 for a command that was not run, with the reason on
	// Stderr. The error is for a target that failed itself.
	Run func(ctx context.Context, c Call) (int, error)

	TTY, Users, Signals, Resizes, Hangup bool
}

// Needs is what a case asks of a target beyond running commands.
type Needs int

// The needs.
const (
	NeedsTTY     Needs = 1 << iota // Call.TTY
	NeedsUsers                     // Call.User, which takes root
	NeedsSignals                   // Call.Signals
	NeedsResizes                   // Call.Resize
	NeedsHangup                    // a cancelled context is a client that is gone
)

func (t Target) can(n Needs) bool {
	return (n&NeedsTTY == 0 || t.TTY) && (n&NeedsUsers == 0 || t.Users) && (n&NeedsSignals == 0 || t.Signals) &&
		(n&NeedsResizes == 0 || t.Resizes) && (n&NeedsHangup == 0 || t.Hangup)
}

// Case is one thing that must be so. {D} in any of its strings is a directory
// that is there for the case alone.
type Case struct {
	Name  string
	Needs Needs
	Setup string // a shell script, run in {D} before

	Call   Call   // what to run; its streams are the test's own
	Stdin  string // all of it
	Stdout string // exactly
	Stderr string // exactly; "*" is anything, "*x" is anything with an x in it
	Code   int

	// Do is for what a call and its result cannot say. It stands for all of the above but Setup.
	Do func(x *X)

	// Differs says, for targets that behave otherwise, why; there the case is not run.
	Differs map[string]string
}

// caseTimeout ends a case that hangs; it is no measure of speed.
const caseTimeout = 2 * time.Minute

// Run runs the whole table against a target.
func Run(t *testing.T, target Target) {
	x := &X{T: t, target: target}
	base := strings.TrimSpace(x.must(Call{Argv: []string{"mktemp", "-d", "/tmp/exectest.XXXXXX"}}))
	x.must(Call{Argv: []string{"chmod", "755", base}})
	t.Cleanup(func() { x.must(Call{Argv: []string{"rm", "-rf", base}}) })
	for i, c := range Cases() {
		t.Run(c.Name, func(t *testing.T) {
			if why, ok := c.Differs[target.Name]; ok {
				t.Skip("differs: " + why)
			}
			if !target.can(c.Needs) {
				t.Skip("cannot be asked of " + target.Name)
			}
			c.run(&X{T: t, target: target, D: fmt.Sprintf("%s/%d", base, i)})
		})
	}
}

func (c Case) run(x *X) {
	setup := c.Setup
	if setup != "" || c.mentionsD() || c.Do != nil {
		x.must(Call{Argv: []string{"sh", "-c", "mkdir -p " + x.D + " && cd " + x.D + "\n" + x.expand(setup)}})
	}
	if c.Do != nil {
		c.Do(x)
		return
	}
	call := c.Call
	call.Stdin = strings.NewReader(c.Stdin)
	stdout, stderr, code := x.Exec(call)
	if code != c.Code {
		x.Errorf("exit code %d, want %d; stderr %q", code, c.Code, clip(stderr))
	}
	if want := x.expand(c.Stdout); stdout != want {
		x.Errorf("stdout %q, want %q", clip(stdout), clip(want))
	}
	if want := x.expand(c.Stderr); !matches(stderr, want) {
		x.Errorf("stderr %q, want %q", clip(stderr), clip(want))
	}
}

func (c Case) mentionsD() bool {
	all := strings.Join(append(append([]string{c.Call.Dir, c.Stdout}, c.Call.Argv...), c.Call.Env...), "\x00")
	return strings.Contains(all, "{D}")
}

func matches(got, want string) bool {
	if part, ok := strings.CutPrefix(want, "*"); ok {
		return strings.Contains(got, part)
	}
	return got == want
}

func clip(s string) string {
	if len(s) > 300 {
		return s[:300] + fmt.Sprintf("… (%d bytes)", len(s))
	}
	return s
}

// X is a case at work.
type X struct {
	*testing.T
	D      string
	target Target
}

func (x *X) expand(s string) string { return strings.ReplaceAll(s, "{D}", x.D) }

func (x *X) expandAll(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = x.expand(s)
	}
	return out
}

// Exec runs a call to its end and gives what came of it.
func (x *X) Exec(c Call) (stdout, stderr string, code int) {
	x.Helper()
	var out, err bytes.Buffer
	c.Stdout, c.Stderr = &out, &err
	code, e := x.Start(context.Background(), c)()
	if e != nil {
		x.Fatalf("%q: %v", c.Argv, e)
	}
	return out.String(), err.String(), code
}

// Start runs a call; the function that it gives waits for its end.
func (x *X) Start(ctx context.Context, c Call) func() (int, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, caseTimeout, errors.New("the command hung"))
	c.Argv, c.Env, c.Dir = x.expandAll(c.Argv), x.expandAll(c.Env), x.expand(c.Dir)
	if c.Stdin == nil {
		c.Stdin = strings.NewReader("")
	}
	if c.Stdout == nil {
		c.Stdout = io.Discard
	}
	if c.Stderr == nil {
		c.Stderr = io.Discard
	}
	type end struct {
		code int
		err  error
	}
	done := make(chan end, 1)
	go func() {
		code, err := x.target.Run(ctx, c)
		done <- end{code, err}
	}()
	return func() (int, error) {
		defer cancel()
		e := <-done
		return e.code, e.err
	}
}

// Shell runs a script, which must succeed, and gives its output.
func (x *X) Shell(script string) string {
	x.Helper()
	return x.must(Call{Argv: []string{"sh", "-c", script}})
}

func (x *X) must(c Call) string {
	x.Helper()
	stdout, stderr, code := x.Exec(c)
	if code != 0 {
		x.Fatalf("%q: exit code %d, %s", c.Argv, code, stderr)
	}
	return stdout
}

// Await runs a script again and again until it succeeds.
func (x *X) Await(what, script string) {
	x.Helper()
	for deadline := time.Now().Add(caseTimeout); ; time.Sleep(50 * time.Millisecond) {
		if _, _, code := x.Exec(Call{Argv: []string{"sh", "-c", x.expand(script)}}); code == 0 {
			return
		}
		if time.Now().After(deadline) {
			x.Fatalf("%s: it never was so", what)
		}
	}
}

// Output collects what a command says and lets a test wait for it.
type Output struct {
	text chan string
	all  strings.Builder
}

// NewOutput makes an Output.
func NewOutput() *Output { return &Output{text: make(chan string, 1<<16)} }

func (o *Output) Write(p []byte) (int, error) {
	o.text <- string(p)
	return len(p), nil
}

// Await waits until s has been said.
func (o *Output) Await(x *X, s string) {
	x.Helper()
	timeout := time.After(caseTimeout)
	for !strings.Contains(o.all.String(), s) {
		select {
		case text := <-o.text:
			o.all.WriteString(text)
		case <-timeout:
			x.Fatalf("it said %q, never %q", clip(o.all.String()), s)
		}
	}
}
