package e2e

import (
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/creack/pty"

	"banger.dev/banger/internal/guest/exectest"
)

// TestExecTable runs the table of what running a command must be like through
// the command line in a real VM, once with the agent as PID 1 and once beside
// systemd.
func TestExecTable(t *testing.T) {
	for _, init := range []string{"none", "auto"} {
		t.Run("init="+init, func(t *testing.T) {
			h := story(t)
			if out, err := h.banger("vm", "run", "--detach", "--name", "table", "--init", init).CombinedOutput(); err != nil {
				t.Fatalf("run: %v\n%s", err, out)
			}
			exectest.Run(t, exectest.Program(exectest.Target{
				Name: "vm", TTY: true, Users: true, Signals: true, Resizes: true, Hangup: true,
			}, h.execArgs))
		})
	}
}

// story is a home that is checked for leaks when the test ends.
func story(t *testing.T) *home {
	t.Helper()
	h, err := newHome(cache)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// execArgs is `banger exec` of a call.
func (h *home) execArgs(c exectest.Call) []string {
	args := append(append([]string{"env"}, h.env()...), filepath.Join(bin, "banger"), "exec")
	for _, e := range c.Env {
		args = append(args, "--env", e)
	}
	if c.Dir != "" {
		args = append(args, "--workdir", c.Dir)
	}
	if c.User != "" {
		args = append(args, "--user", c.User)
	}
	if c.TTY {
		args = append(args, "--tty")
	}
	return append(append(args, "table", "--"), c.Argv...)
}

// TestTerminal is a person at a terminal: its size, a resize while the command
// runs, control keys, and a terminal that is as before afterwards.
func TestTerminal(t *testing.T) {
	h := story(t)
	if out, err := h.banger("vm", "run", "--detach", "--name", "tty", "--init", "none").CombinedOutput(); err != nil {
		t.Fatalf("run: %v\n%s", err, out)
	}
	// An interrupted read ends, if it had begun.
	cmd := h.banger("exec", "-t", "tty", "--", "sh", "-c", `trap 'echo interrupted' INT; tty; stty size; read a; stty size; read b || read b; echo "got $b"; exit 5`)
	terminal, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 33, Cols: 77})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = terminal.Close() }()
	screen := &screen{r: terminal}
	screen.expect(t, "/dev/pts/")
	screen.expect(t, "33 77")
	if err := pty.Setsize(terminal, &pty.Winsize{Rows: 44, Cols: 111}); err != nil {
		t.Fatal(err)
	}
	screen.send(t, "\r")
	screen.expect(t, "44 111")
	screen.send(t, "\x03")
	screen.expect(t, "interrupted")
	screen.send(t, "word\r")
	screen.expect(t, "got word")
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 5 {
		t.Errorf("the command exits with 5; banger: %v", err)
	}
}

// screen is what a terminal has shown so far.
type screen struct {
	r    io.ReadWriter
	seen strings.Builder
}

func (s *screen) send(t *testing.T, keys string) {
	t.Helper()
	if _, err := io.WriteString(s.r, keys); err != nil {
		t.Fatal(err)
	}
}

// expect reads until text is shown.
func (s *screen) expect(t *testing.T, text string) {
	t.Helper()
	buf := make([]byte, 4096)
	for !strings.Contains(s.seen.String(), text) {
		n, err := s.r.Read(buf)
		s.seen.Write(buf[:n])
		if err != nil && !strings.Contains(s.seen.String(), text) {
			t.Fatalf("the terminal never showed %q: %v\n%s", text, err, s.seen.String())
		}
	}
}
