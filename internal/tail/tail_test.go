package tail_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"banger.dev/banger/internal/tail"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func write(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err == nil {
		_, err = f.WriteString(text)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsThere(t *testing.T) {
	dir := t.TempDir()
	older, newer := filepath.Join(dir, "1"), filepath.Join(dir, "0")
	if got := readAll(t, older, newer); got != "" {
		t.Errorf("%q", got)
	}
	write(t, newer, "b\n")
	if got := readAll(t, older, newer); got != "b\n" {
		t.Errorf("%q", got)
	}
	write(t, older, "a\n")
	if got := readAll(t, older, newer); got != "a\nb\n" {
		t.Errorf("%q", got)
	}
}

func readAll(t *testing.T, paths ...string) string {
	t.Helper()
	r, err := tail.Open(t.Context(), paths, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// A follower reads every line once, whatever becomes of the file meanwhile.
func TestFollowOverRotations(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	write(t, path, "line 0\n")
	var over atomic.Bool
	r, err := tail.Open(t.Context(), []string{path + ".1", path}, over.Load)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	lines := bufio.NewReader(r)
	for n := range 30 {
		line, err := lines.ReadString('\n')
		if want := fmt.Sprintf("line %d\n", n); line != want || err != nil {
			t.Fatalf("%q %v, want %q", line, err, want)
		}
		next := fmt.Sprintf("line %d\n", n+1)
		if n%5 == 1 { // what is written before the rotation is read, and then what comes after
			write(t, path, next)
			if err := os.Rename(path, path+".1"); err != nil {
				t.Fatal(err)
			}
			continue
		}
		write(t, path, next)
	}
	write(t, path, "the last words")
	over.Store(true)
	rest, err := io.ReadAll(lines)
	if err != nil || !strings.HasSuffix(string(rest), "the last words") {
		t.Errorf("%q %v", rest, err)
	}
}

func TestTruncated(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	write(t, path, "a long line of before\n")
	r, err := tail.Open(t.Context(), []string{path}, func() bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	lines := bufio.NewReader(r)
	if line, err := lines.ReadString('\n'); err != nil {
		t.Fatal(line, err)
	}
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	write(t, path, "after\n")
	if line, err := lines.ReadString('\n'); line != "after\n" || err != nil {
		t.Errorf("%q %v", line, err)
	}
}

func TestAFollowerLeaves(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r, err := tail.Open(ctx, []string{filepath.Join(t.TempDir(), "never")}, func() bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := io.ReadAll(r); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
