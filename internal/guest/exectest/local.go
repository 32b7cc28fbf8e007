package exectest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"

	"github.com/creack/pty"
)

// Local is the reference: the system's own env starts the command, as anybody's
// shell would, with nothing of ours in between.
func Local() Target {
	return Target{Name: "local", Signals: true, Hangup: false, Run: func(ctx context.Context, c Call) (int, error) {
		argv := []string{"env", "-i"}
		if c.Dir != "" {
			argv = append(argv, "-C", c.Dir)
		}
		argv = append(argv, "--", "PATH="+defaultPath, "HOME="+os.Getenv("HOME"))
		return program(ctx, slices.Concat(argv, c.Env, c.Argv), c, groupOf)
	}}
}

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Program is a target that is reached by a program of the host, such as banger
// exec or podman exec. args gives its whole argument list for a call. A
// terminal is given to the program, whose affair it is to pass it on. Signals
// go to the program.
func Program(t Target, args func(c Call) []string) Target {
	t.Run = func(ctx context.Context, c Call) (int, error) { return program(ctx, args(c), c, itself) }
	return t
}

// Whom a signal is for: the reference is the command, so that its group gets
// it; a program that runs the command elsewhere gets it itself.
func groupOf(pid int) int { return -pid }
func itself(pid int) int  { return pid }

func program(ctx context.Context, argv []string, c Call, whom func(pid int) int) (int, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "EXECTEST_CALLER=yes")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGKILL) }
	done := make(chan struct{})
	defer close(done)
	if c.TTY {
		return programOnTerminal(cmd, c, whom, done)
	}
	cmd.Stdout, cmd.Stderr = c.Stdout, c.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		var errno syscall.Errno
		if errors.As(err, &errno) && errno == syscall.E2BIG {
			_, _ = fmt.Fprintln(c.Stderr, err)
			return 126, nil
		}
		return 0, err
	}
	go func() { // not Cmd.Stdin: Wait would wait for its end
		_, _ = io.Copy(stdin, c.Stdin)
		_ = stdin.Close()
	}()
	go forward(cmd, c, whom, nil, done)
	return exitCode(ctx, cmd.Wait())
}

func programOnTerminal(cmd *exec.Cmd, c Call, whom func(pid int) int, done chan struct{}) (int, error) {
	terminal, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: c.Rows, Cols: c.Cols})
	if err != nil {
		return 0, err
	}
	go func() {
		_, _ = io.Copy(terminal, c.Stdin)
	}()
	go forward(cmd, c, whom, terminal, done)
	_, _ = io.Copy(c.Stdout, terminal) // until the other end is closed
	code, err := exitCode(context.Background(), cmd.Wait())
	_ = terminal.Close()
	return code, err
}

func forward(cmd *exec.Cmd, c Call, whom func(pid int) int, terminal *os.File, done <-chan struct{}) {
	for {
		select {
		case n := <-c.Signals:
			_ = syscall.Kill(whom(cmd.Process.Pid), syscall.Signal(n))
		case size := <-c.Resize:
			if terminal != nil {
				_ = pty.Setsize(terminal, &pty.Winsize{Rows: size.Rows, Cols: size.Cols})
			}
		case <-done:
			return
		}
	}
}

func exitCode(ctx context.Context, err error) (int, error) {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, nil
	case ctx.Err() != nil:
		return 0, context.Cause(ctx)
	case errors.As(err, &exit):
		status, _ := exit.Sys().(syscall.WaitStatus)
		if status.Signaled() {
			return 128 + int(status.Signal()), nil
		}
		return status.ExitStatus(), nil
	case strings.Contains(err.Error(), "closed pipe"):
		return 0, err
	}
	return 0, err
}
