package lifecycle

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"time"

	"banger.dev/banger/internal/monitor"
	"banger.dev/banger/internal/tail"
)

// ConsoleOptions say which part of a console is wanted.
type ConsoleOptions struct {
	Follow bool      // what is yet to come too, until the VM has ended
	Since  time.Time // zero: from the first line there is
	Tail   int       // of what is there already only the last lines; -1: all
}

// Console is the guest's console, whole lines of it. With Follow it ends when
// the VM has ended, with ctx's error when ctx has. A line that is torn by a
// reader's slowness over two rotations of the files is lost, nothing else is.
func (m *Manager) Console(ctx context.Context, ref string, opts ConsoleOptions) (io.ReadCloser, error) {
	rec, err := m.lookup(ctx, ref)
	if err != nil {
		return nil, err
	}
	files := m.files(rec.ID)
	var ended func() bool
	if opts.Follow {
		ended = func() bool { return !m.alive(rec.ID) }
	}
	all, err := tail.Open(ctx, []string{files.Console(1), files.Console(0)}, ended)
	if err != nil {
		return nil, err
	}
	c := &wantedLines{lines: bufio.NewReader(all), closer: all, since: opts.Since}
	if opts.Tail >= 0 {
		c.skip = max(0, c.linesNow(files.Console(1))+c.linesNow(files.Console(0))-opts.Tail)
	}
	return c, nil
}

// wantedLines leaves out the lines that are not wanted.
type wantedLines struct {
	lines  *bufio.Reader
	closer io.Closer
	since  time.Time
	skip   int    // lines still to be left out
	rest   []byte // of a line that did not fit into the last Read
}

func (c *wantedLines) Close() error { return c.closer.Close() }

func (c *wantedLines) Read(p []byte) (int, error) {
	for len(c.rest) == 0 {
		line, err := c.lines.ReadBytes('\n')
		if len(line) > 0 && c.wanted(line) {
			c.rest = line
			break
		}
		if err != nil {
			return 0, err
		}
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func (c *wantedLines) wanted(line []byte) bool {
	if c.skip > 0 {
		if c.before(line) {
			return false
		}
		c.skip--
		return false
	}
	return !c.before(line)
}

// before says whether a line was written before what is wanted. One without a
// stamp is of unknown age, and wanted.
func (c *wantedLines) before(line []byte) bool {
	at, ok := monitor.StampOf(line)
	return ok && at.Before(c.since)
}

// linesNow is how many lines of a file are wanted by their age.
func (c *wantedLines) linesNow(path string) int {
	f, err := os.Open(path)
	if err != nil {
		return 0
	}
	defer func() { _ = f.Close() }()
	n := 0
	for reader := bufio.NewReader(f); ; {
		line, err := reader.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			continue // the line's end counts
		}
		if bytes.HasSuffix(line, []byte{'\n'}) && !c.before(line) {
			n++
		}
		if err != nil {
			return n
		}
	}
}
