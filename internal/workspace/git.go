package workspace

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"banger.dev/banger"
)

// git runs git so that nothing of a repository is run: no hook, no monitor, no
// filter, no program for differences, no pager, no question, no fetch on demand.
type git struct {
	args []string
	env  []string
}

// hardened holds for each call, whatever a repository's settings are.
var hardened = []string{
	"--no-pager", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "core.untrackedCache=false",
	"-c", "core.attributesFile=/dev/null", "-c", "core.sshCommand=false", "-c", "protocol.allow=never",
	"-c", "transfer.fsckObjects=true", "-c", "gc.auto=0", "-c", "maintenance.auto=false", "-c", "submodule.recurse=false",
}

// inRepository reads a user's repository, with that repository's settings and
// the user's: what is ignored depends on both.
func inRepository(dir string) git {
	return git{args: append([]string{"-C", dir}, hardened...), env: environ()}
}

// inOwn works in a bare repository of ours, which has no settings but those that
// we gave it. Objects are also looked for in the given directories.
func inOwn(dir string, objects ...string) git {
	quoted := make([]string, len(objects))
	for i, o := range objects {
		quoted[i] = quote(o)
	}
	return git{
		args: append(append([]string{}, hardened...), "-c", "core.compression=0", "-c", "core.fsync=none", "-c", "merge.renames=false"),
		env: append(environ(), "GIT_DIR="+dir, "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1",
			"GIT_ALTERNATE_OBJECT_DIRECTORIES="+strings.Join(quoted, ":")),
	}
}

// environ is the environment without what would send git elsewhere.
func environ() []string {
	var env []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "GIT_") {
			env = append(env, e)
		}
	}
	return append(env, "GIT_OPTIONAL_LOCKS=0", "GIT_TERMINAL_PROMPT=0", "GIT_NO_LAZY_FETCH=1", "GIT_NO_REPLACE_OBJECTS=1",
		"GIT_ATTR_NOSYSTEM=1", "LC_ALL=C")
}

// with adds to the environment.
func (g git) with(env ...string) git {
	g.env = append(append([]string{}, g.env...), env...)
	return g
}

// compressing makes small objects of what is mostly zeros.
func (g git) compressing() git {
	g.args = append(slices.Clone(g.args), "-c", "core.compression=1")
	return g
}

// largeFile is the size from which content is not held in memory where git can do
// without.
const largeFile = 16 << 20

// large is for content that goes through git: little of it is in memory at a time,
// and little of a pack.
func (g git) large() git {
	g.args = append(slices.Clone(g.args), "-c", fmt.Sprintf("core.bigFileThreshold=%d", largeFile),
		"-c", "core.packedGitWindowSize=16m", "-c", "core.packedGitLimit=64m")
	return g
}

// packing leaves objects in the pack that they come in: of a small number git
// would make single files, and so write all content once more.
func (g git) packing() git {
	g.args = append(slices.Clone(g.args), "-c", "fastimport.unpackLimit=0")
	return g
}

// run gives what a command of git's prints.
func (g git) run(ctx context.Context, args ...string) (string, error) {
	return g.feed(ctx, nil, args...)
}

// feed is run with something on stdin.
func (g git) feed(ctx context.Context, stdin io.Reader, args ...string) (string, error) {
	var out bytes.Buffer
	err := g.pipe(ctx, stdin, &out, args...)
	return out.String(), err
}

// pipe runs a command of git's between two streams.
func (g git) pipe(ctx context.Context, stdin io.Reader, stdout io.Writer, args ...string) error {
	// The parent-death signal is sent when the thread that forked ends. A git that
	// outlived us would go on writing where the next of us writes.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, "git", append(append([]string{}, g.args...), args...)...)
	cmd.Env, cmd.Dir, cmd.Stdin, cmd.Stdout = g.env, "/", stdin, stdout
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	var said bytes.Buffer
	cmd.Stderr = &said
	err := cmd.Run()
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, exec.ErrNotFound):
		return banger.Errorf(banger.KindUnavailable, "git is not installed on this machine").WithNext("sudo apt-get install git")
	}
	return &gitError{command: args[0], said: strings.TrimSpace(said.String()), err: err}
}

// gitError is how git failed, in its own words.
type gitError struct {
	command string
	said    string
	err     error
}

func (e *gitError) Error() string {
	if e.said == "" {
		return fmt.Sprintf("git %s: %v", e.command, e.err)
	}
	return fmt.Sprintf("git %s: %s", e.command, strings.Join(strings.Split(e.said, "\n"), "; "))
}

func (e *gitError) Unwrap() error { return e.err }

// exitCode is git's, or -1.
func exitCode(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return -1
}

// quote writes a path as git reads it in its streams: any byte may be in it.
func quote(name string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range []byte(name) {
		switch {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c >= 0x7f:
			fmt.Fprintf(&b, "\\%03o", c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}
