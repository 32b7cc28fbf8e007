package apt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"banger.dev/banger"
)

// maxOutput bounds what is kept of a child's output.
const maxOutput = 4 << 20

// command is one child process.
type command struct {
	argv  []string
	dir   string     // "" is /
	env   []string   // beside the fixed ones
	files []*os.File // descriptors 3 and up
}

// run runs c and returns its standard output.
// It ends with ctx, and the whole process group with it; should this process
// die, the child does too. The error has what the child said.
func run(ctx context.Context, c command) ([]byte, error) {
	program, err := lookPath(c.argv[0])
	if err != nil {
		return nil, err
	}
	// The parent-death signal is sent when the thread that forked ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	cmd := exec.CommandContext(ctx, program, c.argv[1:]...)
	cmd.Env = append(baseEnv(), c.env...)
	cmd.Dir = "/"
	if c.dir != "" {
		cmd.Dir = c.dir
	}
	cmd.ExtraFiles = c.files
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	stderr := &bounded{max: maxOutput}
	cmd.Stderr = stderr
	stdout := &bounded{max: maxOutput}
	cmd.Stdout = stdout
	err = cmd.Run()
	switch {
	case err == nil:
		return stdout.Bytes(), nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil, &commandError{program: c.argv[0], stderr: stderr.String(), err: err}
	}
	return nil, fmt.Errorf("run %s: %w", c.argv[0], err)
}

// commandError is a child that failed.
type commandError struct {
	program, stderr string
	err             error
}

func (e *commandError) Error() string {
	if line := firstComplaint(e.stderr); line != "" {
		return e.program + ": " + line
	}
	return e.program + ": " + e.err.Error()
}

func (e *commandError) Unwrap() error { return e.err }

// firstComplaint is the line of apt's output that says what is wrong: its first
// error, else its first warning, else the last line.
func firstComplaint(stderr string) string {
	if failure := firstOf(stderr, "E: "); failure != "" {
		return failure
	}
	if warning := firstWarning(stderr); warning != "" {
		return warning
	}
	lines := strings.Split(strings.TrimSpace(stderr), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}

// firstWarning is the first warning in what apt-get said, or "".
func firstWarning(stderr string) string { return firstOf(stderr, "W: ") }

// firstOf is the first line that begins with prefix, without it.
func firstOf(stderr, prefix string) string {
	for line := range strings.Lines(stderr) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), prefix); ok {
			return rest
		}
	}
	return ""
}

const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// baseEnv is the whole environment of a child, apart from what a command adds.
func baseEnv() []string {
	env := []string{"PATH=" + searchPath, "LC_ALL=C.UTF-8"}
	for _, k := range []string{"http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"} {
		if v := os.Getenv(k); v != "" {
			env = append(env, k+"="+v)
		}
	}
	return env
}

// lookPath finds a program in the fixed search path, whatever the caller's PATH is.
func lookPath(name string) (string, error) {
	for dir := range strings.SplitSeq(searchPath, ":") {
		file := dir + "/" + name
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return file, nil
		}
	}
	return "", banger.Errorf(banger.KindUnavailable, "%s is not on this host: kernels and images are pulled with apt, on Debian and its kin", name).
		WithNext("cat /etc/os-release")
}

// bounded keeps the first max bytes and swallows the rest.
type bounded struct {
	bytes.Buffer
	max int
}

func (b *bounded) Write(p []byte) (int, error) {
	if room := b.max - b.Len(); room > 0 {
		b.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}
