package monitor

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"banger.dev/banger/internal/agent/wire"
	"banger.dev/banger/internal/paths"
)

func newTestConsole(t *testing.T) (*console, paths.VM) {
	t.Helper()
	files := paths.VM{Dir: t.TempDir()}
	c, err := newConsole(files)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	return c, files
}

func (c *console) put(t *testing.T, text string) {
	t.Helper()
	if n, err := c.Write([]byte(text)); n != len(text) || err != nil {
		t.Fatalf("Write: %d of %d bytes, %v", n, len(text), err)
	}
}

// lines is a console file without its time stamps, which are checked.
func lines(t *testing.T, file string) []string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > 0 && b[len(b)-1] != '\n' {
		t.Errorf("%s does not end with a whole line", file)
	}
	var found []string
	for line := range strings.Lines(string(b)) {
		stamp, rest, ok := strings.Cut(line, " ")
		if _, err := time.Parse(strings.TrimSpace(stampLayout), stamp); err != nil || !ok {
			t.Fatalf("%.100q has no time stamp: %v", line, err)
		}
		found = append(found, strings.TrimSuffix(rest, "\n"))
	}
	return found
}

func TestConsoleLines(t *testing.T) {
	c, files := newTestConsole(t)
	c.put(t, "one\r\ntw")
	c.put(t, "o\r\n\n")
	c.mark("boot %d", 2)
	c.put(t, "three\nno end")
	c.mark("boot 3") // ends what has no end
	c.put(t, "esc\x1b[31m \x00 \xff\nthe last")
	if got := c.last(); got != "one\ntwo\n\nthree\nno end\nesc\x1b[31m \x00 \xff\nthe last" {
		t.Errorf("the console's end is %q", got)
	}
	c.close()
	want := []string{"one", "two", "", "-- boot 2 --", "three", "no end", "-- boot 3 --", "esc\x1b[31m \x00 \xff", "the last"}
	if got := lines(t, files.Console(0)); fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
		t.Errorf("the file has %q, not %q", got, want)
	}
	c.put(t, "after the end\n") // and nothing happens
}

func TestConsoleGoesOnWhereItWas(t *testing.T) {
	c, files := newTestConsole(t)
	c.put(t, "the first run\n")
	c.close()
	again, err := newConsole(files)
	if err != nil {
		t.Fatal(err)
	}
	again.put(t, "the second run\n")
	again.close()
	if got := lines(t, files.Console(0)); len(got) != 2 {
		t.Errorf("the file has %q", got)
	}
	if got := again.last(); got != "the second run\n" {
		t.Errorf("the second run's end is %q", got)
	}
}

func TestConsoleIsBounded(t *testing.T) {
	c, files := newTestConsole(t)
	// Three files' worth in odd pieces, a long line in it.
	var all bytes.Buffer
	for n := 0; all.Len() < 3*consoleMax; n++ {
		fmt.Fprintf(&all, "line %07d %s\n", n, strings.Repeat("x", n%300))
	}
	total := bytes.Count(all.Bytes(), []byte("\n"))
	for rest := all.Bytes(); len(rest) > 0; {
		n := min(len(rest), 4099)
		c.put(t, string(rest[:n]))
		rest = rest[n:]
	}
	if got, want := c.last(), all.Bytes()[all.Len()-ConsoleTail:]; got != string(want) {
		t.Errorf("the console's end is %d bytes, beginning with %.40q", len(got), got)
	}
	c.close()
	var kept []string
	for n := 1; n >= 0; n-- {
		info, err := os.Stat(files.Console(n))
		if err != nil || info.Size() > consoleMax || info.Mode() != 0o600 {
			t.Errorf("file %d: %v bytes, %v, %v", n, info.Size(), info.Mode(), err)
		}
		kept = append(kept, lines(t, files.Console(n))...)
	}
	for i, line := range kept {
		n := total - len(kept) + i
		if want := fmt.Sprintf("line %07d %s", n, strings.Repeat("x", n%300)); line != want {
			t.Fatalf("line %d of the two files is %.40q, not %.40q", i, line, want)
		}
	}
	if info, err := os.ReadDir(files.Dir); err != nil || len(info) != 2 {
		t.Errorf("files %v, %v", info, err)
	}
}

func TestConsoleBreaksLongLines(t *testing.T) {
	c, files := newTestConsole(t)
	c.put(t, strings.Repeat("a", 2*lineMax+10)+"\n"+strings.Repeat("b", lineMax)+"\nend\n")
	c.close()
	got := lines(t, files.Console(0))
	var lengths []int
	for _, line := range got {
		lengths = append(lengths, len(line))
	}
	// A line that is exactly full is followed by the empty rest of it.
	if want := fmt.Sprint([]int{lineMax, lineMax, 10, lineMax, 0, 3}); fmt.Sprint(lengths) != want {
		t.Errorf("lines of %v bytes, not %s", lengths, want)
	}
}

func TestConsoleNotices(t *testing.T) {
	c, _ := newTestConsole(t)
	if stage, fatal, panicked := c.seen(); stage != wire.StageKernel || fatal != "" || panicked != "" {
		t.Errorf("before a word: %q %q %q", stage, fatal, panicked)
	}
	c.put(t, "[    0.5] "+wire.StagePrefix+wire.StageRoot+"\r\n")
	c.put(t, wire.StagePrefix+"wor")
	if stage, _, _ := c.seen(); stage != wire.StageRoot {
		t.Errorf("half a line was believed: stage %q", stage)
	}
	c.put(t, "k\n"+wire.FatalPrefix+"the first reason\n"+wire.FatalPrefix+"another\n")
	c.put(t, "[    1.0] Kernel panic - not syncing: Attempted to kill init!\n[ 2.0] Kernel panic - not syncing: again\n")
	if stage, fatal, panicked := c.seen(); stage != wire.StageWork || fatal != "the first reason" || panicked != "Attempted to kill init!" {
		t.Errorf("seen: %q %q %q", stage, fatal, panicked)
	}
	c.reset()
	if stage, fatal, panicked := c.seen(); stage != wire.StageKernel || fatal != "" || panicked != "" {
		t.Errorf("at the next boot: %q %q %q", stage, fatal, panicked)
	}
	c.put(t, wire.FatalPrefix+strings.Repeat("y", lineMax/2)+"\n")
	if _, fatal, _ := c.seen(); len(fatal) != briefMax {
		t.Errorf("a reason of %d bytes", len(fatal))
	}
}

// TestConsoleWithoutADirectory: what cannot be written costs the log, not the VM.
func TestConsoleWithoutADirectory(t *testing.T) {
	c, files := newTestConsole(t)
	if err := os.RemoveAll(files.Dir); err != nil {
		t.Fatal(err)
	}
	line := strings.Repeat("z", 1000) + "\n"
	for range 2 * consoleMax / len(line) {
		c.put(t, line)
	}
	if len(c.last()) != ConsoleTail {
		t.Errorf("%d bytes are kept for exit.json", len(c.last()))
	}
}

func TestBoundedLog(t *testing.T) {
	file := t.TempDir() + "/vmm.log"
	for range 2 { // each run begins anew
		b, err := newBoundedLog(file)
		if err != nil {
			t.Fatal(err)
		}
		chunk := bytes.Repeat([]byte("w"), 100_001)
		for range 2 * vmmLogMax / len(chunk) {
			if n, err := b.Write(chunk); n != len(chunk) || err != nil {
				t.Fatalf("Write: %d, %v", n, err)
			}
		}
		b.close()
		if n, err := b.Write(chunk); n != len(chunk) || err != nil {
			t.Errorf("Write after the end: %d, %v", n, err)
		}
		if info, err := os.Stat(file); err != nil || info.Size() != vmmLogMax || info.Mode() != 0o600 {
			t.Errorf("%v bytes, %v, %v", info.Size(), info.Mode(), err)
		}
	}
}
