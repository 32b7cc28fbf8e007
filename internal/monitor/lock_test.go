package monitor

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func assertHeld(t *testing.T, path string, want bool) {
	t.Helper()
	held, err := Held(path)
	if err != nil || held != want {
		t.Errorf("held: %t, %v; not %t", held, err, want)
	}
}

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	assertHeld(t, path, false) // there is no file yet
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("to ask for the lock makes the file (%v)", err)
	}
	f, err := lockFile(path)
	if err != nil {
		t.Fatal(err)
	}
	assertHeld(t, path, true)
	assertHeld(t, path, true) // asking has not released it, as flock(2) by another descriptor would
	if second, err := lockFile(path); err == nil || !strings.Contains(err.Error(), "another monitor runs this VM") {
		_ = second.Close()
		t.Errorf("a second taker: %v", err)
	}
	_ = f.Close()
	assertHeld(t, path, false)
	// One who asks while another takes must not make it fail.
	for range 100 {
		asked := make(chan struct{})
		go func() {
			defer close(asked)
			_, _ = Held(path)
		}()
		f, err := lockFile(path)
		if err != nil {
			t.Fatalf("an observer was in the way: %v", err)
		}
		<-asked
		_ = f.Close()
	}
}

// TestLockIsInherited: while a child that got the descriptor lives, the lock is held.
func TestLockIsInherited(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	f, err := lockFile(path)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("cat")
	cmd.ExtraFiles = []*os.File{f}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	assertHeld(t, path, true)
	if second, err := lockFile(path); err == nil {
		_ = second.Close()
		t.Error("the lock was taken while the child has it")
	}
	_, _ = io.WriteString(stdin, "")
	_ = stdin.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	assertHeld(t, path, false)
}
