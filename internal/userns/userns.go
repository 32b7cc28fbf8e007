// Package userns runs a program as root: as itself when we are root, else as
// the root of a user namespace in which the caller's subordinate ids are
// mapped, so that a plain user can make files of many owners. It is no
// sandbox: the program sees the caller's file system and network.
package userns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"banger.dev/banger"
)

// Command is a program to be run as root.
type Command struct {
	Argv   []string // Argv[0] is an absolute path, as Find gives it
	Env    []string // nil is Environ
	Dir    string   // "" is /
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer // beside the tail that an error quotes

	// Alone maps nobody but the caller, who becomes root: no subordinate ids are needed.
	Alone bool
	// Own gives it mount and PID namespaces of its own, so that its mounts
	// and all of its descendants end with it, also when we are root. A
	// plain user's always has them, except Alone.
	Own bool
}

// Environ is the fixed environment of a child: nothing of the caller's.
func Environ() []string {
	return []string{"PATH=" + searchPath, "LC_ALL=C.UTF-8", "HOME=/nonexistent"}
}

const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Find is the path of a program. It looks where root would look too, since
// /usr/sbin is not in a plain user's PATH. pkg is the Debian package that has it.
func Find(program, pkg string) (string, error) {
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), filepath.SplitList(searchPath)...) {
		if !filepath.IsAbs(dir) {
			continue
		}
		path := filepath.Join(dir, program)
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", banger.Errorf(banger.KindUnavailable, "%s is not installed", program).WithNext("sudo apt install %s", pkg)
}

// killGrace bounds how long a killed program's output is waited for.
const killGrace = 5 * time.Second

// first is the first process of a PID namespace. It waits for its ids before
// anything is executed as their root, and stays the parent: the kernel forgets
// the parent-death signal of a process that gains capabilities, but not of this
// one, and when it dies the kernel kills all of its namespace.
const first = `read -r _ <&3 || exit 125; exec 3<&-; mount --make-rprivate / || exit 125; "$@"; exit $?`

// Run runs c and waits for it. When ctx or the calling process ends, the
// program is killed; with Own or its group, what it started too. The error of a
// program that failed has the last lines it wrote to stderr.
func (c Command) Run(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	maps, err := c.mappings()
	if err != nil {
		return err
	}
	tail := &tail{also: c.Stderr}
	cmd := c.prepare(ctx, tail, maps)
	var gate *os.File
	if maps != nil || c.Own {
		r, w, err := os.Pipe()
		if err != nil {
			return err
		}
		defer func() { _, _ = r.Close(), w.Close() }()
		gate, cmd.ExtraFiles = w, []*os.File{r}
	}
	err = runOnThread(cmd, func() error { return openGate(ctx, gate, cmd.Process, maps) })
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil && cmd.Process == nil && errors.Is(err, syscall.EPERM):
		return banger.Errorf(banger.KindUnavailable, "this host, or the container or chroot that we are in, lets us make no namespaces for %s: %w", filepath.Base(c.Argv[0]), err).
			WithNext("sysctl -a | grep -E 'userns|user_namespaces'")
	case err != nil:
		return tail.explain(filepath.Base(c.Argv[0]), err)
	}
	return nil
}

// prepare is the process that Run starts.
func (c Command) prepare(ctx context.Context, stderr io.Writer, maps *idMaps) *exec.Cmd {
	argv := c.Argv
	if maps != nil || c.Own {
		argv = append([]string{"/bin/sh", "-c", first, "sh"}, argv...)
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env, cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Env, c.Dir, c.Stdin, c.Stdout, stderr
	if cmd.Env == nil {
		cmd.Env = Environ()
	}
	if cmd.Dir == "" {
		cmd.Dir = "/"
	}
	cmd.SysProcAttr = c.attributes(maps != nil)
	cmd.WaitDelay = killGrace
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	return cmd
}

// runOnThread starts cmd, calls started and waits, all on one locked thread:
// the parent-death signal is sent when the thread that forked ends.
func runOnThread(cmd *exec.Cmd, started func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			done <- err
			return
		}
		if err := started(); err != nil {
			_ = cmd.Cancel()
			_ = cmd.Wait()
			done <- err
			return
		}
		done <- cmd.Wait()
	}()
	return <-done
}

func (c Command) attributes(mapped bool) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if mapped || c.Own {
		attr.Cloneflags |= syscall.CLONE_NEWNS | syscall.CLONE_NEWPID
	}
	switch {
	case mapped:
		attr.Cloneflags |= syscall.CLONE_NEWUSER
	case os.Getuid() != 0:
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	return attr
}

// openGate gives the waiting child its ids and lets it go on. nil is no gate.
func openGate(ctx context.Context, gate *os.File, child *os.Process, maps *idMaps) error {
	if gate == nil {
		return nil
	}
	if err := maps.apply(ctx, child.Pid); err != nil {
		return err
	}
	if _, err := io.WriteString(gate, "\n"); err != nil {
		return fmt.Errorf("start as the first process of a namespace: %w", err)
	}
	return gate.Close()
}

// apply maps ids into the user namespace of a process. nil maps none.
func (maps *idMaps) apply(ctx context.Context, process int) error {
	if maps == nil {
		return nil
	}
	pid := strconv.Itoa(process)
	for _, m := range []struct {
		program string
		args    []string
	}{{"newuidmap", maps.uids}, {"newgidmap", maps.gids}} {
		program, err := Find(m.program, "uidmap")
		if err != nil {
			return err
		}
		cmd := exec.CommandContext(ctx, program, append([]string{pid}, m.args...)...)
		cmd.Env = Environ()
		if out, err := cmd.CombinedOutput(); err != nil {
			return banger.Errorf(banger.KindUnavailable, "cannot map subordinate ids into a user namespace: %s: %s: %w",
				m.program, bytes.TrimSpace(out), err)
		}
	}
	return nil
}

// tailBytes is how much of a program's stderr is kept for its error.
const tailBytes = 4 << 10

// tail keeps the end of what is written to it. os/exec writes from one goroutine.
type tail struct {
	also io.Writer
	buf  []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.buf = append(t.buf, p...)
	if extra := len(t.buf) - tailBytes; extra > 0 {
		t.buf = append(t.buf[:0], t.buf[extra:]...)
	}
	if t.also != nil {
		return t.also.Write(p)
	}
	return len(p), nil
}

// tailLines is how many lines an error quotes.
const tailLines = 5

// explain is err with the last lines the program wrote.
func (t *tail) explain(program string, err error) error {
	var known *banger.Error
	if errors.As(err, &known) {
		return err
	}
	var lines []string
	for line := range strings.Lines(strings.ToValidUTF8(string(t.buf), "?")) {
		// mmdebstrap marks with "I: " what is no complaint.
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "I: ") {
			lines = append(lines, line)
		}
	}
	lines = lines[max(0, len(lines)-tailLines):]
	said := strings.Join(lines, "; ")
	if said == "" {
		said = "it said nothing"
	}
	return fmt.Errorf("%s: %w: %s", program, err, said)
}
