package tail_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"banger.dev/banger/internal/tail"
)

func anything([]byte) bool { return true }

// last are the last lines, after what happens between finding and reading them.
func last(t *testing.T, path string, n int, wanted func([]byte) bool, meanwhile func()) []string {
	t.Helper()
	begin, err := tail.Last(t.Context(), []string{path + ".1", path}, n, wanted)
	if err != nil {
		t.Fatal(err)
	}
	meanwhile()
	lines, _, _ := from(t, path, begin, 1000)
	return lines
}

func TestLast(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	var all []string
	for n := range 9 {
		if n == 5 {
			rotate(t, path)
		}
		all = append(all, fmt.Sprintf("line %d\n", n))
		write(t, path, all[n])
	}
	for n := range 12 {
		want := all[max(0, len(all)-n):]
		if got := last(t, path, n, anything, func() {}); !slices.Equal(got, want) {
			t.Errorf("the last %d: %q", n, got)
		}
	}
	odd := func(line []byte) bool { return strings.Contains("13579", string(line[5:6])) }
	if got := last(t, path, 2, odd, func() {}); !slices.Equal(got, all[5:]) {
		t.Errorf("from the last but one that is odd: %q", got)
	}
}

// A rotation between finding and reading neither loses a line nor shows more.
func TestLastOverARotation(t *testing.T) {
	for n := range 4 {
		path := filepath.Join(t.TempDir(), "log")
		write(t, path, "older\n")
		rotate(t, path)
		write(t, path, "one\ntwo\nthree\n")
		got := last(t, path, n, anything, func() {
			write(t, path, "four\n")
			rotate(t, path)
			write(t, path, "five\n")
		})
		if want := []string{"one\n", "two\n", "three\n", "four\n", "five\n"}[3-n:]; !slices.Equal(got, want) {
			t.Errorf("the last %d, and what came later: %q", n, got)
		}
	}
}

func TestLastOfNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if got := last(t, path, 3, anything, func() { write(t, path, "one\n") }); !slices.Equal(got, []string{"one\n"}) {
		t.Errorf("%q", got)
	}
}
