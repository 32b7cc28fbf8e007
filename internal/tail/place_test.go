package tail_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"banger.dev/banger/internal/tail"
)

// from reads the lines behind a place: all that are there, or at most limit.
func from(t *testing.T, path string, after tail.Place, limit int) (lines []string, at tail.Place, found bool) {
	t.Helper()
	r, err := tail.Open(t.Context(), []string{path + ".1", path}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	if found, err = r.Skip(after); err != nil {
		t.Fatal(err)
	}
	at = after
	for all := tail.NewLines(r); len(lines) < limit; {
		line, err := all.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		lines, at = append(lines, string(line.Text)), line.Behind
	}
	return lines, at, found
}

func rotate(t *testing.T, path string) {
	t.Helper()
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
}

// Readers that come one after the other, each going on where the last one left,
// get each line once, over a rotation between any two lines.
func TestReadersThatTakeTurns(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	var got, want []string
	var at tail.Place
	for n := range 40 {
		line := fmt.Sprintf("line %d\n", n)
		if n%7 == 5 {
			rotate(t, path)
		}
		write(t, path, line)
		want = append(want, line)
		if n%3 == 2 {
			limit := 2 + n%2*2 // some leave lines behind
			text := at.String()
			back, err := tail.ParsePlace(text)
			if err != nil || back != at {
				t.Fatalf("%q: %v %v", text, back, err)
			}
			lines, next, found := from(t, path, back, limit)
			if !found {
				t.Fatalf("at line %d: %v is not found", n, at)
			}
			got, at = append(got, lines...), next
		}
	}
	rest, _, _ := from(t, path, at, len(want))
	if got = append(got, rest...); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

func TestAPlaceThatIsGone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	write(t, path, "one\ntwo\n")
	_, at, _ := from(t, path, tail.Place{}, 1)
	for n := range 2 {
		rotate(t, path)
		write(t, path, fmt.Sprintf("after %d\n", n))
	}
	lines, _, found := from(t, path, at, 10)
	if found || !slices.Equal(lines, []string{"after 0\n", "after 1\n"}) {
		t.Errorf("found %v: %q", found, lines)
	}
}

func TestTheLastWordsHaveNoEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	write(t, path, "one\ntw")
	lines, at, _ := from(t, path, tail.Place{}, 10)
	if !slices.Equal(lines, []string{"one\n", "tw"}) || at.Offset != 6 {
		t.Errorf("%q %v", lines, at)
	}
}

func TestBadPlaces(t *testing.T) {
	for _, s := range []string{"x", "+5", "a+", "a+-1", "a+b", "a+9999999999999999999"} {
		if p, err := tail.ParsePlace(s); err == nil {
			t.Errorf("%q is %v", s, p)
		}
	}
}

// FuzzParsePlace: what is read as a place is written as the same.
func FuzzParsePlace(f *testing.F) {
	for _, s := range []string{"", "0123456789abcdef+12", "a+b", "+", "a+0012"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := tail.ParsePlace(s)
		if err != nil {
			return
		}
		if again, err := tail.ParsePlace(p.String()); err != nil || again != p {
			t.Errorf("%q is %+v, which is %q, which is %+v, %v", s, p, p, again, err)
		}
	})
}
