package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
)

// TestPlainUserFromNothing is the stranger's first minutes: a user without any
// right beyond a range of subordinate ids, and an empty cache. It pulls kernel
// and image, and goes the main road. Root makes such a user for it; anybody
// else is one.
func TestPlainUserFromNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("bootstraps an image")
	}
	p := newPerson(t)
	p.banger(t, "image and kernel are pulled at first use", 0, "", "vm", "run", "--rm", "--", "sh", "-c", "id -u; echo out; echo err >&2")
	if got := p.stdout; got != "0\nout\n" {
		t.Errorf("the first run printed %q", got)
	}
	if !strings.Contains(p.stderr, "Debian") {
		t.Errorf("the pull showed no progress: %q", p.stderr)
	}
	p.banger(t, "a second run says nothing of its own", 7, "", "vm", "run", "--rm", "--", "sh", "-c", "echo err >&2; exit 7")
	if p.stderr != "err\n" {
		t.Errorf("stderr of a cached run: %q", p.stderr)
	}
	p.banger(t, "create", 0, "", "vm", "create", "--name", "x")
	p.banger(t, "start", 0, "", "vm", "start", "x")
	p.banger(t, "exec", 0, "abc", "exec", "x", "--", "wc", "-c")
	if p.stdout != "3\n" {
		t.Errorf("wc -c of 3 bytes: %q", p.stdout)
	}
	p.banger(t, "stop", 0, "", "vm", "stop", "--timeout", "2m", "x")
	if strings.Contains(p.stderr, "killed") {
		t.Errorf("stop killed: %q", p.stderr)
	}
	p.banger(t, "delete", 0, "", "vm", "delete", "x")
	p.banger(t, "list", 0, "", "vm", "list", "-o", "json")
	if p.stdout != "[]\n" {
		t.Errorf("left: %q", p.stdout)
	}
}

// person runs banger as a plain user in a home and cache of its own.
type person struct {
	name           string // "" for ourselves
	dir            string
	stdout, stderr string
}

// newPerson makes a user when we are root; everything of it goes with the test.
func newPerson(t *testing.T) *person {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "bng-")
	if err != nil {
		t.Fatal(err)
	}
	p := &person{dir: dir}
	t.Cleanup(func() { p.close(t) })
	if os.Getuid() == 0 {
		p.name = fmt.Sprintf("banger-e2e-%d", os.Getpid())
		mustRun(t, "useradd", "--no-create-home", "--home-dir", dir, "--shell", "/bin/sh", p.name)
		u, err := user.Lookup(p.name)
		if err != nil {
			t.Fatal(err)
		}
		if ranges, _ := os.ReadFile("/etc/subuid"); !strings.Contains(string(ranges), p.name+":") {
			mustRun(t, "usermod", "--add-subuids", "700000000-700065535", "--add-subgids", "700000000-700065535", p.name)
		}
		mustRun(t, "chown", u.Uid+":"+u.Gid, dir)
	}
	// The checkout may be where the user cannot go.
	mustRun(t, "cp", filepath.Join(bin, "banger"), filepath.Join(bin, "bangerd"), dir)
	return p
}

func mustRun(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// command is banger run as the person.
func (p *person) command(args ...string) *exec.Cmd {
	env := []string{"HOME=" + p.dir, "BANGER_HOME=" + p.dir + "/b", "PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C.UTF-8"}
	argv := append([]string{filepath.Join(p.dir, "banger")}, args...)
	if p.name != "" {
		argv = append([]string{"setpriv", "--reuid", p.name, "--regid", p.name, "--init-groups", "--"}, argv...)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env, cmd.Dir = env, p.dir
	return cmd
}

func (p *person) banger(t *testing.T, what string, code int, stdin string, args ...string) {
	t.Helper()
	var out, complaints strings.Builder
	cmd := p.command(args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &complaints
	err := cmd.Run()
	var exit *exec.ExitError
	got := 0
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	p.stdout, p.stderr = out.String(), complaints.String()
	if got != code {
		t.Fatalf("%s: exit code %d, want %d\n%s%s", what, got, code, p.stdout, p.stderr)
	}
}

func (p *person) close(t *testing.T) {
	t.Helper()
	if out, err := p.command("daemon", "stop").CombinedOutput(); err != nil {
		t.Errorf("daemon stop: %v\n%s", err, out)
	}
	h := home{dir: p.dir}
	if err := h.noProcesses(); err != nil {
		t.Error(err)
	}
	if p.name != "" {
		mustRun(t, "userdel", p.name)
	}
	if err := os.RemoveAll(p.dir); err != nil {
		t.Error(err)
	}
}
