package userns

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"banger.dev/banger"
)

func sh(script string) Command { return Command{Argv: []string{"/bin/sh", "-c", script}} }

func needMaps(t *testing.T) {
	t.Helper()
	if err := Check(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

func TestRunIsRootAmongManyIDs(t *testing.T) {
	needMaps(t)
	dir := t.TempDir()
	for name, own := range map[string]bool{"plain": false, "own": true} {
		var out bytes.Buffer
		cmd := sh(`cat; id -u; : > "$F"; chown 1000:65534 "$F"; stat -c %u:%g "$F"; rm -f "$F"`)
		cmd.Env = append(Environ(), "F="+filepath.Join(dir, name))
		cmd.Stdin, cmd.Stdout, cmd.Own = strings.NewReader("in\n"), &out, own
		if err := cmd.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := out.String(); got != "in\n0\n1000:65534\n" {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestAloneIsRootWithoutSubordinateIDs(t *testing.T) {
	var out bytes.Buffer
	cmd := sh("id -u; pwd; echo ${SECRET-unset}")
	t.Setenv("SECRET", "of the caller")
	cmd.Alone, cmd.Stdout = true, &out
	if err := cmd.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); got != "0\n/\nunset\n" {
		t.Errorf("%q", got)
	}
}

func TestFailureQuotesTheLastLines(t *testing.T) {
	needMaps(t)
	for _, own := range []bool{false, true} {
		cmd := sh("for i in 1 2 3 4 5 6 7 8; do echo line $i >&2; done; echo I: chatter >&2; exit 3")
		cmd.Own = own
		err := cmd.Run(t.Context())
		if err == nil || err.Error() != "sh: exit status 3: line 4; line 5; line 6; line 7; line 8" {
			t.Error(err)
		}
	}
}

func TestOwnEndsWithEverythingItStarted(t *testing.T) {
	needMaps(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	// A daemon in a session of its own, which no signal to a group reaches.
	cmd := sh("setsid sh -c 'echo up; sleep 1000' & wait")
	cmd.Own, cmd.Stdout = true, w
	done := make(chan error, 1)
	go func() { done <- cmd.Run(ctx) }()
	if _, err := r.Read(make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	_ = w.Close()
	if err := r.SetReadDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	if n, err := r.Read(make([]byte, 1)); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("something still holds the pipe: %v", err)
	}
}

func TestFindSaysWhatToInstall(t *testing.T) {
	_, err := Find("no-such-program", "some-package")
	if banger.KindOf(err) != banger.KindUnavailable || banger.NextOf(err) != "sudo apt install some-package" {
		t.Errorf("%v, %s", err, banger.NextOf(err))
	}
	t.Setenv("PATH", "/nowhere")
	if path, err := Find("sh", "dash"); err != nil || !strings.HasSuffix(path, "/sh") {
		t.Errorf("%s, %v", path, err)
	}
}

func TestSubordinateIDs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "subuid")
	content := "other:100000:65536\nuser:1:10\n\nuser:165536:65536\nuser:x:65536\nuser:1:2:3\n1234:300000:70000\nuser2:400000:70000\nuser:-5:65536\n"
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		uid  int
		want idRange
	}{{"user", 9, idRange{165536, 65536}}, {"other", 9, idRange{100000, 65536}}, {"nobody", 1234, idRange{300000, 70000}}} {
		if got, err := subordinate(path, c.name, c.uid); err != nil || got != c.want {
			t.Errorf("%s: %v, %v", c.name, got, err)
		}
	}
	for _, p := range []string{path, path + "-missing"} {
		_, err := subordinate(p, "jo", 5)
		if banger.KindOf(err) != banger.KindUnavailable || banger.NextOf(err) != "sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 jo" {
			t.Errorf("%v, %s", err, banger.NextOf(err))
		}
	}
}

// TestNothingOutlivesItsCaller kills a process that runs a program: the
// program, and what that has started, end too.
func TestNothingOutlivesItsCaller(t *testing.T) {
	const variable = "BANGER_TEST_RUN"
	if os.Getenv(variable) != "" {
		cmd := sh("setsid sh -c 'echo up; sleep 1000' & wait")
		cmd.Own, cmd.Stdin, cmd.Stdout = true, os.Stdin, os.Stdout
		t.Fatal(cmd.Run(context.Background()))
	}
	needMaps(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(os.Args[0], "-test.run=^TestNothingOutlivesItsCaller$")
	child.Env, child.Stdout = append(os.Environ(), variable+"=1"), w
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	if _, err := r.Read(make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait()
	if err := r.SetReadDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	if n, err := r.Read(make([]byte, 1)); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("something still holds the pipe: %v", err)
	}
}
