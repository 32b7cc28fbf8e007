package e2e

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// release builds banger and bangerd of a version into a directory of their own.
func release(t *testing.T, version string) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false",
		"-ldflags", "-s -w -X banger.dev/banger/internal/version.Version="+version, "-o", dir+"/", "./cmd/banger", "./cmd/bangerd")
	cmd.Dir, cmd.Env = "..", append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

// of has the home's commands be those of a directory.
func (h *home) of(dir string, args ...string) *exec.Cmd {
	cmd := h.banger(args...)
	cmd.Path = filepath.Join(dir, "banger")
	return cmd
}

// served is how many daemons this home has had.
func (h *home) served(t *testing.T) int {
	t.Helper()
	log, err := os.ReadFile(filepath.Join(h.dir, "state", "bangerd.log"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(log), "msg=serving")
}

// twenty runs a command twenty times at once; all must end with 0.
func (h *home) twenty(t *testing.T, dir string, args ...string) {
	t.Helper()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if out, err := h.of(dir, args...).CombinedOutput(); err != nil {
				t.Errorf("%v: %v: %s", args, err, out)
			}
		})
	}
	wg.Wait()
}

func codeOf(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	if err != nil {
		return -1
	}
	return 0
}

// TestUpgrade is about two builds and one home: the newer one's commands replace
// the daemon, once, while a command in a VM goes on.
func TestUpgrade(t *testing.T) {
	v1, v2 := release(t, "1.9.0"), release(t, "1.10.0")
	h, err := newHome(cache)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.close(); err != nil {
			t.Error(err)
		}
	})
	h.twenty(t, v1, "vm", "list")
	if n := h.served(t); n != 1 {
		t.Fatalf("twenty at once started %d daemons", n)
	}
	if out, err := h.of(v1, "vm", "run", "-d", "--name", "x").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}

	follower := h.of(v1, "vm", "logs", "-f", "x")
	var followed strings.Builder
	follower.Stdout = &followed
	if err := follower.Start(); err != nil {
		t.Fatal(err)
	}

	slow := h.of(v1, "exec", "x", "--", "sh", "-c", "echo begun; read line; echo $line; exit 3")
	in, err := slow.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := slow.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := slow.Start(); err != nil {
		t.Fatal(err)
	}
	said := bufio.NewReader(out)
	if line, err := said.ReadString('\n'); line != "begun\n" {
		t.Fatalf("%q, %v", line, err)
	}

	h.twenty(t, v2, "ps")
	if n := h.served(t); n != 2 {
		t.Errorf("the upgrade made it %d daemons", n)
	}
	status, err := h.of(v2, "daemon", "status").CombinedOutput()
	if err != nil || !strings.Contains(string(status), "version 1.10.0") {
		t.Errorf("%s, %v", status, err)
	}
	for code, args := range map[int][]string{1: {"vm", "list"}, 125: {"exec", "x", "--", "true"}} {
		refused, err := h.of(v1, args...).CombinedOutput()
		if codeOf(err) != code || !strings.Contains(string(refused), "the daemon (1.10.0) is newer than this banger (1.9.0)") || strings.Count(string(refused), "\n") != 1 {
			t.Errorf("%v with the older build: %s, %v", args, refused, err)
		}
	}
	if _, err := io.WriteString(in, "went on\n"); err != nil {
		t.Error(err)
	}
	rest, err := io.ReadAll(said)
	if err != nil || string(rest) != "went on\n" {
		t.Errorf("the command in the VM said %q, %v", rest, err)
	}
	if code := codeOf(slow.Wait()); code != 3 {
		t.Errorf("it ended with %d", code)
	}

	// The same once more, after the daemon was killed.
	kill := exec.Command("sh", "-c", `kill -KILL "$(banger daemon status -o json | sed -n 's/.*"pid": \([0-9]*\).*/\1/p')"`)
	kill.Env = h.env()
	if out, err := kill.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	h.twenty(t, v2, "exec", "x", "--", "true")
	if n := h.served(t); n != 3 {
		t.Errorf("after the kill it is %d daemons", n)
	}
	stopped, err := h.of(v2, "daemon", "stop").CombinedOutput()
	if err != nil || string(stopped) != "the daemon has stopped; 1 VM goes on running; see it with: banger ps\n" {
		t.Errorf("%s, %v", stopped, err)
	}
	if out, err := h.of(v2, "exec", "x", "--", "sh", "-c", "echo the last word > /dev/console").CombinedOutput(); err != nil {
		t.Errorf("%s, %v", out, err)
	}

	// A console that is followed by the older build, over all of these daemons.
	if out, err := h.of(v2, "vm", "stop", "--timeout", "60s", "x").CombinedOutput(); err != nil {
		t.Errorf("%s, %v", out, err)
	}
	if err := follower.Wait(); err != nil {
		t.Error(err)
	}
	console, err := h.of(v2, "vm", "logs", "x").Output()
	if err != nil || followed.String() != string(console) || !strings.Contains(string(console), "the last word") {
		t.Errorf("%v: followed\n%s\nthe console is\n%s", err, followed.String(), console)
	}
}
