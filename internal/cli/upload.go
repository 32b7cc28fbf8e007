package cli

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"

	"banger.dev/banger"
	"banger.dev/banger/internal/agent/archive"
	"banger.dev/banger/internal/client"
)

// upload gives to a client by which it sends s, shows how far that is, and closes
// what s reads.
func upload[T any](ctx context.Context, a *app, s *sending, to func(*client.Client) (T, error)) (T, error) {
	defer func() { _ = s.in.Close() }()
	d, err := a.connect(ctx)
	if err != nil {
		var none T
		return none, err
	}
	progress := a.newProgress()
	defer progress.end()
	s.report = progress.report
	return to(d)
}

// standardInput is what is to be sent where that is piped; a terminal, whose user
// has meant something else, is refused.
func (a *app) standardInput(reads, next string) (io.ReadCloser, error) {
	if isTerminal(a.Stdin) {
		return nil, banger.Errorf(banger.KindInvalid, "%s from standard input, which is a terminal", reads).WithNext("%s", next)
	}
	return io.NopCloser(a.Stdin), nil
}

// statSource is what is to be sent.
func statSource(from string) (fs.FileInfo, error) {
	st, err := os.Stat(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, banger.Errorf(banger.KindNotFound, "there is no %s", from)
	}
	if err != nil {
		return nil, banger.Errorf(banger.KindInvalid, "%w", err)
	}
	return st, nil
}

// packTar is a tar of what pack takes of a directory; files of the caller become
// root's.
func packTar(name string, pack func(*archive.Packer, *os.File) error) (io.ReadCloser, error) {
	dir, err := archive.OpenDir(name)
	if err != nil {
		return nil, err
	}
	out, in := io.Pipe()
	go func() {
		defer func() { _ = dir.Close() }()
		p := archive.NewPacker(in)
		p.Root = os.Getuid()
		err := pack(p, dir)
		if err == nil {
			err = p.Close()
		}
		_ = in.CloseWithError(err) // nil is the end
	}()
	return out, nil
}

// sending reports how much of an archive has been read, and says of an error
// that it is the archive's.
type sending struct {
	in     io.ReadCloser
	from   string
	stage  string
	then   string // what comes when all is sent
	total  int64
	done   int64
	report banger.ProgressFunc
}

func (s *sending) Read(p []byte) (int, error) {
	n, err := s.in.Read(p)
	s.done += int64(n)
	switch {
	case err == nil:
		s.report(banger.Progress{Stage: s.stage, Message: "send", Done: s.done, Total: s.total, Bytes: true})
	case errors.Is(err, io.EOF):
		s.report(banger.Progress{Stage: s.stage, Message: s.then})
	default:
		err = banger.Errorf(banger.KindInvalid, "read %s: %w", s.from, err)
	}
	return n, err
}
