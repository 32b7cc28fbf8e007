package replace_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"banger.dev/banger/internal/replace"
)

// elsewhere gives the test a directory for temporary files of its own, on the
// file system of the others.
func elsewhere(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	return dir
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := []string{}
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func TestFile(t *testing.T) {
	temp, dir := elsewhere(t), t.TempDir()
	path := filepath.Join(dir, "file")
	for _, content := range []string{"one", "the other", ""} {
		if err := replace.File(path, []byte(content), 0o640); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil || string(b) != content {
			t.Errorf("%q, %v", b, err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
			t.Errorf("%v, %v", info, err)
		}
	}
	if left := append(names(t, temp), names(t, dir)...); len(left) != 1 {
		t.Errorf("there are %v", left)
	}
}

// What is half written is beside the file, and nowhere that others look.
func TestNothingIsWrittenElsewhere(t *testing.T) {
	temp := elsewhere(t)
	long := time.Unix(1e9, 0)
	if err := os.Chtimes(temp, long, long); err != nil {
		t.Fatal(err)
	}
	if err := replace.File(filepath.Join(t.TempDir(), "file"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(temp); err != nil || !info.ModTime().Equal(long) {
		t.Errorf("$TMPDIR was written to: %v, %v", info.ModTime(), err)
	}
}

func TestAFailureLeavesTheOldFileAndNothingElse(t *testing.T) {
	temp, dir := elsewhere(t), t.TempDir()
	path := filepath.Join(dir, "file")
	if err := os.MkdirAll(filepath.Join(path, "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := replace.File(path, []byte("new"), 0o600); err == nil {
		t.Error("a directory was replaced")
	}
	if left := append(names(t, temp), names(t, dir)...); len(left) != 1 {
		t.Errorf("there are %v", left)
	}
}

func TestTwoWritersDoNotMeet(t *testing.T) {
	elsewhere(t)
	path := filepath.Join(t.TempDir(), "file")
	contents := [][]byte{bytes.Repeat([]byte("a"), 1<<16), bytes.Repeat([]byte("b"), 1<<15)}
	var writers sync.WaitGroup
	for _, content := range contents {
		writers.Go(func() {
			for range 20 {
				if err := replace.File(path, content, 0o600); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	b, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(b, contents[0]) && !bytes.Equal(b, contents[1]) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

// The mode is the one that was asked for, whatever the umask and the file before.
func TestMode(t *testing.T) {
	elsewhere(t)
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	before := syscall.Umask(0o077)
	defer syscall.Umask(before)
	if err := replace.File(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("%v, %v", info, err)
	}
}

// TestMain makes this binary a writer that goes on until it is killed.
func TestMain(m *testing.M) {
	for path := os.Getenv("REPLACE_FOR_EVER"); path != ""; {
		if err := replace.File(path, make([]byte, 1<<20), 0o600); err != nil {
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// killInTheMiddle has a writer of path killed that has begun to.
func killInTheMiddle(t *testing.T, path string, begun func() bool) {
	t.Helper()
	for !begun() {
		writer := exec.CommandContext(t.Context(), os.Args[0])
		writer.Env = append(os.Environ(), "REPLACE_FOR_EVER="+path)
		if err := writer.Start(); err != nil {
			t.Fatal(err)
		}
		for !begun() {
			time.Sleep(time.Millisecond)
		}
		_ = writer.Process.Kill()
		_ = writer.Wait() // it was killed
	}
}

func TestSweepRemovesWhatAKilledWriterLeft(t *testing.T) {
	temp, dir := elsewhere(t), t.TempDir()
	path := filepath.Join(dir, "file")
	others := []string{"file", ".file", ".filename1", ".file1x", "other", ".other1"}
	for _, name := range others {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	killInTheMiddle(t, path, func() bool { return len(names(t, dir)) > len(others) })
	if err := replace.Sweep(path); err != nil {
		t.Fatal(err)
	}
	slices.Sort(others)
	if now := append(names(t, dir), names(t, temp)...); !slices.Equal(now, others) {
		t.Errorf("there are %v", now)
	}
	if err := replace.Sweep(filepath.Join(dir, "gone", "file")); err != nil {
		t.Error(err)
	}
}
