package daemon

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"banger.dev/banger/internal/paths"
)

// asLogger has this binary be a process whose standard error is its log.
const asLogger = "BANGER_TEST_LOGGER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(asLogger); dir != "" {
		log := NewLog(paths.Layout{State: dir})
		log.max = 1000
		for n := range 500 {
			fmt.Fprintf(log, "line %d\n", n)
		}
		panic("and the end")
	}
	os.Exit(m.Run())
}

// The log and the one before it are bounded, and a crash is in the newer one.
func TestLogIsBounded(t *testing.T) {
	layout := paths.Layout{State: t.TempDir()}
	file, err := os.Create(layout.DaemonLog())
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = []string{asLogger + "=" + layout.State}
	cmd.Stderr = file
	if err := cmd.Run(); err == nil {
		t.Fatal("it did not panic")
	}
	now, err := os.ReadFile(layout.DaemonLog())
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(layout.DaemonLogBefore())
	if err != nil {
		t.Fatal(err)
	}
	lines, crash, crashed := strings.Cut(string(now), "panic: ")
	if !crashed || !strings.Contains(crash, "and the end") || !strings.HasSuffix(lines, "line 499\n") {
		t.Errorf("the log is %q", now)
	}
	if len(before) > 1000 || len(lines) > 1000 || !strings.Contains(string(before)+lines, "line 450\n") {
		t.Errorf("%d and %d bytes", len(before), len(lines))
	}
	if info, err := os.Stat(layout.DaemonLog()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

// What is not the log file is left alone: a terminal, or the journal's pipe.
func TestOtherStandardErrorIsNotTheLog(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = []string{asLogger + "=" + dir}
	out, err := cmd.CombinedOutput()
	if err == nil || strings.Count(string(out), "line ") != 500 {
		t.Errorf("%v, %d lines", err, strings.Count(string(out), "line "))
	}
	if left, _ := filepath.Glob(dir + "/*"); len(left) != 0 {
		t.Errorf("made %v", left)
	}
}
