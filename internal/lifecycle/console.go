package lifecycle

import (
	"context"
	"errors"
	"io"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/monitor"
	"banger.dev/banger/internal/paths"
	"banger.dev/banger/internal/tail"
)

// Source is a log of a VM.
type Source string

// The sources.
const (
	SourceSerial Source = "serial" // what the guest writes to its console, a time stamp a line
	SourceVMM    Source = "vmm"    // what the VMM says, of its last run
)

// ConsoleOptions say which part of a log is wanted.
type ConsoleOptions struct {
	Source Source     // "": serial
	Follow bool       // what is yet to come too, until the VM has ended
	Since  time.Time  // zero: from the first line there is
	Tail   int        // of what is there already only the last lines; -1: all, and so it is if After is given
	After  tail.Place // where an earlier reader has stopped; zero: none has
	Places bool       // before each line the place behind it, and a space
}

// Console is a log of a VM, whole lines of it.
type Console struct {
	io.ReadCloser
	VM string // its id
	// Begin is the place of the first line, as far as it is known: zero is before
	// everything.
	Begin tail.Place
	// Lost says that lines behind ConsoleOptions.After are gone; what comes is
	// the rest.
	Lost bool
}

// Console is what the guest, or its VMM, has said. With Follow it ends when the
// VM has ended, with ctx's error when ctx has. A line that is torn by a reader's
// slowness over two rotations of the files is lost, nothing else is.
func (m *Manager) Console(ctx context.Context, ref string, opts ConsoleOptions) (*Console, error) {
	rec, err := m.lookup(ctx, ref)
	if err != nil {
		return nil, err
	}
	if err := m.unfinished(ctx, rec); err != nil {
		return nil, err
	}
	files, err := logFiles(m.files(rec.ID), opts.Source)
	if err != nil {
		return nil, err
	}
	var ended func() bool
	if opts.Follow {
		ended = func() bool { return !m.alive(rec.ID) }
	}
	begin := opts.After
	if begin == (tail.Place{}) && opts.Tail >= 0 {
		begin, err = tail.Last(ctx, files, opts.Tail, func(line []byte) bool { return !before(line, opts.Since) })
		if err != nil {
			return nil, err
		}
	}
	all, err := tail.Open(ctx, files, ended)
	if err != nil {
		return nil, err
	}
	found, err := all.Skip(begin)
	if err != nil {
		return nil, errors.Join(err, all.Close())
	}
	c := &wantedLines{lines: tail.NewLines(all), closer: all, since: opts.Since, places: opts.Places}
	if !found { // it has been rotated away: all that is there is behind it
		return &Console{ReadCloser: c, VM: rec.ID, Lost: opts.After != (tail.Place{})}, nil
	}
	return &Console{ReadCloser: c, VM: rec.ID, Begin: begin}, nil
}

// logFiles are the files of a log, the oldest first.
func logFiles(files paths.VM, source Source) ([]string, error) {
	switch source {
	case "", SourceSerial:
		return []string{files.Console(1), files.Console(0)}, nil
	case SourceVMM:
		return []string{files.VMMLog()}, nil
	}
	return nil, banger.Errorf(banger.KindInvalid, "there is no log %q of a VM: there are %s and %s", source, SourceSerial, SourceVMM)
}

// wantedLines leaves out the lines that are not wanted.
type wantedLines struct {
	lines  *tail.Lines
	closer io.Closer
	since  time.Time
	places bool
	rest   []byte // of a line that did not fit into the last Read
}

func (c *wantedLines) Close() error { return c.closer.Close() }

func (c *wantedLines) Read(p []byte) (int, error) {
	for len(c.rest) == 0 {
		line, err := c.lines.Next()
		if err != nil {
			return 0, err
		}
		if !before(line.Text, c.since) {
			c.rest = c.text(line)
		}
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func (c *wantedLines) text(line tail.Line) []byte {
	if !c.places {
		return line.Text
	}
	return append([]byte(line.Behind.String()+" "), line.Text...)
}

// before says whether a line was written before what is wanted. One without a
// stamp is of unknown age, and wanted.
func before(line []byte, since time.Time) bool {
	if since.IsZero() {
		return false
	}
	at, ok := monitor.StampOf(line)
	return ok && at.Before(since)
}
