// Package e2e holds the stories: what a user does and sees, told as scripts
// over the real binaries and real VMs. Nothing here is faked; the guest's
// kernel and image come from Debian's archive and are kept in the user's cache
// directory between runs.
package e2e

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"banger.dev/banger"
	"banger.dev/banger/internal/proc/proctest"
)

// patience is how long a story waits for something that must come about. No
// test says how fast it does.
const patience = 3 * time.Minute

// bin is the directory of the built binaries, cache the shared cache.
var bin, cache string

func TestMain(m *testing.M) {
	flag.Parse()
	proctest.HearSignals()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if err := setup(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	return m.Run()
}

// setup finds the binaries and pulls image and kernel into the shared cache,
// so that no story waits for it under its own deadline.
func setup() error {
	root, err := filepath.Abs("..")
	if err != nil {
		return err
	}
	bin = filepath.Join(root, "bin")
	for _, name := range []string{"banger", "bangerd"} {
		if _, err := os.Stat(filepath.Join(bin, name)); err != nil {
			return fmt.Errorf("%w (run make build)", err)
		}
	}
	user, err := os.UserCacheDir()
	if err != nil {
		return err
	}
	cache = filepath.Join(user, "banger-test")
	h, err := newHome(cache)
	if err != nil {
		return err
	}
	cmd := exec.Command(filepath.Join(bin, "banger"), "vm", "run", "--rm", "--", "true")
	cmd.Env, cmd.Stdout, cmd.Stderr = h.env(), os.Stdout, os.Stderr
	return errors.Join(cmd.Run(), h.close())
}

// home is one BANGER_HOME and the daemon that serves it.
type home struct {
	dir   string
	cache string
	extra []string
}

// newHome makes an empty home; its path is short for the sockets' sake.
func newHome(cache string) (*home, error) {
	dir, err := os.MkdirTemp("", "bng-")
	if err != nil {
		return nil, err
	}
	return &home{dir: dir, cache: cache}, nil
}

func (h *home) env() []string {
	return append([]string{
		"BANGER_HOME=" + h.dir, "BANGER_CACHE=" + h.cache, "HOME=" + h.dir, "TERM=xterm", "BANGER_REGISTRIES_DEFAULT=none",
		"PATH=" + bin + ":" + os.Getenv("PATH"),
	}, h.extra...)
}

func (h *home) banger(args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(bin, "banger"), args...)
	cmd.Env, cmd.Dir = h.env(), h.dir
	return cmd
}

// list is what `vm list -o json` says.
func (h *home) list() ([]banger.VM, error) {
	out, err := h.banger("vm", "list", "-o", "json").Output()
	if err != nil {
		return nil, err
	}
	var vms []banger.VM
	return vms, json.Unmarshal(out, &vms)
}

func (h *home) show(name string) (banger.Detail, error) {
	var d banger.Detail
	out, err := h.banger("vm", "show", "-o", "json", name).Output()
	if err != nil {
		return d, err
	}
	return d, json.Unmarshal(out, &d)
}

// close deletes what the story made, ends the daemon and reports whatever is
// left: a process that still has a file of this home open is a leak.
func (h *home) close() error {
	var errs []error
	vms, err := h.list()
	errs = append(errs, err)
	for _, vm := range vms {
		out, err := h.banger("vm", "delete", "--force", vm.ID).CombinedOutput()
		if err != nil {
			errs = append(errs, fmt.Errorf("delete %s: %w: %s", vm.Name, err, out))
		}
	}
	if out, err := h.banger("daemon", "stop").CombinedOutput(); err != nil {
		errs = append(errs, fmt.Errorf("daemon stop: %w: %s", err, out))
	}
	errs = append(errs, h.noProcesses())
	for _, dir := range []string{"state/vms", "run/vms"} {
		left, err := os.ReadDir(filepath.Join(h.dir, dir))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
		for _, e := range left {
			errs = append(errs, fmt.Errorf("left behind: %s/%s", dir, e.Name()))
		}
	}
	return errors.Join(append(errs, os.RemoveAll(h.dir))...)
}

// noProcesses waits until no process has a file of this home open.
func (h *home) noProcesses() error {
	return eventually(func() error {
		users, err := h.users()
		if err != nil || len(users) == 0 {
			return err
		}
		return fmt.Errorf("still running: %s", strings.Join(users, "; "))
	})
}

// users are the processes that have a file of this home open.
func (h *home) users() ([]string, error) {
	links, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	var found []string
	for _, link := range links {
		target, err := os.Readlink(link)
		pid := strings.Split(link, "/")[2]
		if err != nil || !strings.HasPrefix(target, h.dir+"/") || seen[pid] || pid == strconv.Itoa(os.Getpid()) {
			continue
		}
		seen[pid] = true
		cmdline, _ := os.ReadFile("/proc/" + pid + "/cmdline")
		found = append(found, pid+" "+strings.ReplaceAll(string(cmdline[:min(len(cmdline), 120)]), "\x00", " "))
	}
	return found, nil
}

// eventually repeats check until it gives nil or patience ends.
func eventually(check func() error) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func TestStories(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Condition:           condition,
		Setup: func(env *testscript.Env) error {
			h, err := newHome(cache)
			if err != nil {
				return err
			}
			env.Values["home"] = h
			for _, kv := range h.env() {
				key, value, _ := strings.Cut(kv, "=")
				if key != "PATH" {
					env.Setenv(key, value)
				}
			}
			env.Setenv("PATH", bin+":"+env.Getenv("PATH"))
			env.Defer(func() {
				if err := h.close(); err != nil {
					t.Errorf("%s leaves something: %v", env.Getenv("WORK"), err)
				}
			})
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits":        exits,
			"kill9":        kill9,
			"state":        state,
			"gone":         gone,
			"random":       random,
			"same":         same,
			"hostserver":   hostServer,
			"nothing":      nothing,
			"lines":        lines,
			"ask":          ask,
			"until":        until,
			"privatecache": privateCache,
			"image":        makeImage,
			"badkernel":    badKernel,
			"program":      program,
			"talk":         talk,
			"many":         many,
			"freeport":     freePort,
			"outside":      outside,
			"rss":          rss,
			"registry":     startRegistry,
			"saved":        saveImage,
		},
	})
}

func homeOf(ts *testscript.TestScript) *home { return ts.Value("home").(*home) }

// exits CODE COMMAND...: runs it and checks its exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		code = exit.ExitCode()
	case err != nil:
		ts.Fatalf("%s: %v", args[1], err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

// kill9 daemon | monitor NAME | vmm NAME: SIGKILL.
func kill9(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: kill9 daemon | monitor NAME | vmm NAME")
	}
	h := homeOf(ts)
	pid := 0
	switch {
	case args[0] == "daemon":
		var status struct{ PID int }
		out, err := h.banger("daemon", "status", "-o", "json").Output()
		ts.Check(err)
		ts.Check(json.Unmarshal(out, &status))
		pid = status.PID
	case len(args) == 2:
		d, err := h.show(args[1])
		ts.Check(err)
		if d.Handles == nil {
			ts.Fatalf("%s is not alive", args[1])
		}
		pid = map[string]int{"monitor": d.Handles.MonitorPID, "vmm": d.Handles.PID}[args[0]]
	}
	if pid <= 1 {
		ts.Fatalf("kill9 %v: no pid", args)
	}
	ts.Check(syscall.Kill(pid, syscall.SIGKILL))
	ts.Check(eventually(func() error {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return nil
		}
		return fmt.Errorf("process %d lives", pid)
	}))
}

// state NAME STATE: waits until the VM has it.
func state(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: state NAME STATE")
	}
	ts.Check(eventually(func() error {
		d, err := homeOf(ts).show(args[0])
		if err == nil && string(d.State) != args[1] {
			err = fmt.Errorf("%s is %s (%s), not %s", args[0], d.State, d.Reason, args[1])
		}
		return err
	}))
}

// gone: waits until no process of this home but the daemon is left.
func gone(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: gone")
	}
	ts.Check(eventually(func() error {
		users, err := homeOf(ts).users()
		for _, u := range users {
			if strings.Contains(u, " monitor ") || strings.Contains(u, "qemu") {
				return errors.New(u)
			}
		}
		return err
	}))
}

// nothing: there is no VM, and no file of one.
func nothing(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: nothing")
	}
	h := homeOf(ts)
	ts.Check(eventually(func() error {
		vms, err := h.list()
		if err != nil {
			return err
		}
		left, err := filepath.Glob(h.dir + "/*/vms/*")
		if err == nil && len(vms)+len(left) > 0 {
			err = fmt.Errorf("VMs %v, files %v", vms, left)
		}
		return err
	}))
}

// random FILE BYTES
func random(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: random FILE BYTES")
	}
	n, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	f, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	_, err = io.CopyN(f, rand.Reader, n)
	ts.Check(errors.Join(err, f.Close()))
}

// same FILE FILE: byte for byte.
func same(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: same FILE FILE")
	}
	if (ts.ReadFile(args[0]) == ts.ReadFile(args[1])) == neg {
		ts.Fatalf("same %v: not so", args)
	}
}

// lines FILE N: the file has N lines.
func lines(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: lines FILE N")
	}
	if got := strings.Count(ts.ReadFile(args[0]), "\n"); strconv.Itoa(got) != args[1] {
		ts.Fatalf("%s has %d lines, want %s:\n%s", args[0], got, args[1], ts.ReadFile(args[0]))
	}
}

// hostserver VARIABLE: a server on the host's 127.0.0.1 that greets, its port in VARIABLE.
func hostServer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: hostserver VARIABLE")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, "greetings from the host\n")
			_ = conn.Close()
		}
	}()
	ts.Setenv(args[0], strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
}

// condition is what a story can ask before it goes on.
func condition(name string) (bool, error) {
	switch name {
	case "ci": // nothing may be wanting, so that nothing is skipped for it
		return os.Getenv("CI") == "true", nil
	case "namespaces":
		return canNamespaces()
	}
	return false, fmt.Errorf("there is no condition %q", name)
}
