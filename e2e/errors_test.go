package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// trouble is a home in which something is wrong.
type trouble struct {
	*home
	t *testing.T
}

func newTrouble(t *testing.T) trouble {
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
	return trouble{h, t}
}

func (h trouble) path(names ...string) string {
	return filepath.Join(append([]string{h.dir}, names...)...)
}

// refused runs a command that must end with code and one line that has all of
// says and a command to type.
func (h trouble) refused(code int, args []string, says ...string) {
	h.t.Helper()
	h.judge(h.banger(args...), code, says...)
}

func (h trouble) judge(cmd *exec.Cmd, code int, says ...string) {
	h.t.Helper()
	var complaints strings.Builder
	cmd.Stderr = &complaints
	err := cmd.Run()
	line := complaints.String()
	if codeOf(err) != code || strings.Count(line, "\n") != 1 || !strings.HasPrefix(line, "banger: ") || !strings.Contains(line, "; try: ") {
		h.t.Errorf("%v: %v, want %d and one line with what to type:\n%s", cmd.Args[1:], err, code, line)
	}
	for _, want := range says {
		if !strings.Contains(line, want) {
			h.t.Errorf("%v says %q, not %q", cmd.Args[1:], line, want)
		}
	}
	h.t.Logf("%s", line)
}

// works runs a command that must succeed.
func (h trouble) works(args ...string) {
	h.t.Helper()
	if out, err := h.banger(args...).CombinedOutput(); err != nil {
		h.t.Errorf("%v: %v: %s", args, err, out)
	}
}

func (h trouble) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h trouble) write(content string, names ...string) {
	h.t.Helper()
	h.must(os.MkdirAll(filepath.Dir(h.path(names...)), 0o700))
	h.must(os.WriteFile(h.path(names...), []byte(content), 0o600))
}

var list = []string{"vm", "list"}

// What is wrong is said in one line, and when it is put right everything works.
func TestErrors(t *testing.T) {
	t.Run("long path", func(t *testing.T) {
		h := newTrouble(t)
		h.extra = []string{"BANGER_HOME=" + h.path(strings.Repeat("x", 100))}
		h.refused(2, list, "too long for a unix socket", "BANGER_HOME")
		h.refused(125, []string{"run", "--rm", "--", "true"}, "too long for a unix socket")
		h.extra = nil
		h.works(list...)
	})
	t.Run("stale socket and locks", func(t *testing.T) {
		h := newTrouble(t)
		for _, name := range [][]string{{"run", "start.lock"}, {"state", "bangerd.lock"}} {
			h.write("4242\n", name...)
		}
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: h.path("run", "bangerd.sock"), Net: "unix"})
		h.must(err)
		l.SetUnlinkOnClose(false)
		l.Close()
		h.works(list...)
	})
	t.Run("file for the socket", func(t *testing.T) {
		h := newTrouble(t)
		h.write("", "run", "bangerd.sock")
		h.refused(4, list, "run/bangerd.sock is there and is not a socket", "try: rm ")
		h.must(os.Remove(h.path("run", "bangerd.sock")))
		h.works(list...)
	})
	t.Run("file for a directory", func(t *testing.T) {
		h := newTrouble(t)
		h.write("", "state")
		h.refused(1, list, h.path("state"), "not a directory")
		h.must(os.Remove(h.path("state")))
		h.works(list...)
	})
	t.Run("run directory of others", func(t *testing.T) {
		h := newTrouble(t)
		h.must(os.MkdirAll(h.path("run"), 0o700))
		h.must(os.Chmod(h.path("run"), 0o777))
		h.refused(1, list, h.path("run")+" can be written by other users", "BANGER_HOME")
		h.must(os.Chmod(h.path("run"), 0o755)) // others may look: taken from them
		h.works(list...)
		h.works("daemon", "stop")
		if os.Getuid() == 0 {
			h.must(os.Chown(h.path("run"), 65534, -1))
			h.refused(1, list, "belongs to another user")
			h.must(os.Chown(h.path("run"), 0, -1))
			h.works(list...)
		}
	})
	t.Run("damaged database", func(t *testing.T) {
		h := newTrouble(t)
		h.works(list...)
		h.works("daemon", "stop")
		whole, err := os.ReadFile(h.path("state", "banger.db"))
		h.must(err)
		for _, damage := range []string{string(whole[:len(whole)/2-7]), strings.Repeat("garbage\n", 600), ""} {
			h.write(damage, "state", "banger.db")
			h.refused(1, list, "banger.db is damaged", "restore it from a backup", "try: mkdir -p ")
			h.refused(125, []string{"exec", "x", "--", "true"}, "banger.db is damaged")
		}
		h.must(os.Remove(h.path("state", "banger.db")))
		h.must(os.Mkdir(h.path("state", "banger.db"), 0o700))
		h.refused(1, list, "not a regular file")
		h.must(os.Remove(h.path("state", "banger.db")))
		h.write(string(whole), "state", "banger.db")
		h.works(list...)
	})
	t.Run("daemon that stands still", func(t *testing.T) {
		h := newTrouble(t)
		h.works("daemon", "start")
		out, err := h.banger("daemon", "status", "-o", "json").Output()
		h.must(err)
		_, rest, _ := strings.Cut(string(out), `"pid": `)
		digits, _, _ := strings.Cut(rest, ",")
		pid, err := strconv.Atoi(digits)
		h.must(err)
		h.must(syscall.Kill(pid, syscall.SIGSTOP))
		h.must(eventually(func() error { return standsStill(pid) }))
		h.refused(1, list, "does not answer", "try: kill -KILL "+digits)
		h.refused(1, []string{"daemon", "status"}, "does not answer", "try: kill -KILL "+digits)
		h.must(syscall.Kill(pid, syscall.SIGCONT))
		h.works(list...)
	})
	t.Run("no bangerd", func(t *testing.T) {
		h := newTrouble(t)
		alone := t.TempDir()
		mustRun(t, "cp", filepath.Join(bin, "banger"), alone)
		cmd := h.of(alone, list...)
		cmd.Env = append(cmd.Env, "PATH=/usr/bin:/bin")
		h.judge(cmd, 1, "bangerd is neither at "+alone+"/bangerd nor in PATH")
		h.works(list...)
	})
	t.Run("settings", func(t *testing.T) {
		h := newTrouble(t)
		h.write("[daemon]\nidle_timeot = '1h'\n", "config", "config.toml")
		line := `config.toml:2:1: [daemon] has no key "idle_timeot"; the nearest is idle_timeout`
		h.refused(2, list, line)
		h.refused(125, []string{"exec", "x", "--", "true"}, line)
		for _, args := range [][]string{{"version"}, {"config", "path"}, {"config", "show", "--defaults"}, {"daemon", "stop"}} {
			h.works(args...)
		}
		h.must(os.Remove(h.path("config", "config.toml")))
		h.must(os.Mkdir(h.path("config", "config.toml"), 0o700))
		h.refused(2, list, "config.toml is a directory")
		h.must(os.Remove(h.path("config", "config.toml")))
		h.works(list...)
	})
	t.Run("read-only home", func(t *testing.T) {
		h := newTrouble(t)
		h.mount("16m")
		h.extra = []string{"BANGER_HOME=" + h.path("m")}
		mustRun(t, "mount", "-o", "remount,ro", h.path("m"))
		h.refused(1, list, "read-only file system", h.path("m"))
		h.refused(125, []string{"run", "--rm", "--", "true"}, "read-only file system")
		mustRun(t, "mount", "-o", "remount,rw", h.path("m"))
		h.works(list...)
		h.works("daemon", "stop")
	})
	t.Run("full disk", func(t *testing.T) {
		h := newTrouble(t)
		h.mount("512k")
		h.extra = []string{"BANGER_HOME=" + h.path("m")}
		h.fill()
		h.refused(1, list, "no space")
		h.must(os.Remove(h.path("m", "filler")))
		h.works(list...)
		h.fill()
		h.refused(1, []string{"vm", "create", "--name", "x"}, "no space")
		h.must(os.Remove(h.path("m", "filler")))
		mustRun(t, "mount", "-o", "remount,size=64m", h.path("m"))
		h.works("vm", "create", "--name", "x")
		h.works("vm", "delete", "x")
		h.works("daemon", "stop")
	})
	t.Run("no VMM", func(t *testing.T) {
		if os.Getuid() != 0 {
			t.Skip("only root hides a program from a daemon")
		}
		h := newTrouble(t)
		qemu, err := exec.LookPath("qemu-system-x86_64")
		h.must(err)
		hidden := exec.Command("unshare", "-m", "sh", "-c", `mount --bind /dev/null "$1" && exec "$2" daemon start`, "sh", qemu, filepath.Join(bin, "banger"))
		hidden.Env = h.env()
		if out, err := hidden.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		h.refused(125, []string{"run", "--rm", "--", "true"}, "qemu", "try: ")
		h.works("daemon", "stop")
		h.works("run", "--rm", "--", "true")
	})
}

// standsStill says whether all threads of a process are stopped, which they are
// some time after the signal.
func standsStill(pid int) error {
	stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, name := range stats {
		stat, gone := os.ReadFile(name)
		if gone == nil && !strings.Contains(string(stat), ") T ") {
			return fmt.Errorf("%s: %s", name, stat)
		}
	}
	return err
}

// mount has a small file system at m in the home.
func (h trouble) mount(size string) {
	h.t.Helper()
	if os.Getuid() != 0 {
		h.t.Skip("only root mounts file systems")
	}
	h.must(os.Mkdir(h.path("m"), 0o700))
	mustRun(h.t, "mount", "-t", "tmpfs", "-o", "mode=700,size="+size, "tmpfs", h.path("m"))
	h.t.Cleanup(func() {
		_ = h.banger("daemon", "stop").Run()
		h.extra = nil
		if err := h.noProcesses(); err != nil {
			h.t.Error(err)
		}
		// A process that is gone from /proc's list may yet have files to close.
		h.must(eventually(func() error { return syscall.Unmount(h.path("m"), 0) }))
	})
}

// fill takes all the space there is.
func (h trouble) fill() {
	h.t.Helper()
	f, err := os.Create(h.path("m", "filler"))
	h.must(err)
	defer f.Close()
	for _, size := range []int{64 << 10, 4 << 10} {
		for {
			if _, err := f.Write(make([]byte, size)); err != nil {
				break
			}
		}
	}
}

// TestNoSubordinateIDs is a plain user's first command, before anybody gave it
// ids for its namespaces.
func TestNoSubordinateIDs(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root makes a user")
	}
	p := newPerson(t)
	mustRun(t, "usermod", "--del-subuids", "1-4294967294", "--del-subgids", "1-4294967294", p.name)
	p.banger(t, "run", 125, "", "run", "--rm", "--", "true")
	if !strings.Contains(p.stderr, "subuid") || !strings.Contains(p.stderr, "; try: ") {
		t.Errorf("it says %q", p.stderr)
	}
}
