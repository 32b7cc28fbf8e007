// Package tail reads files that others write to while they do: to the end and,
// if wanted, on from there, over rotations by name and truncations. It knows
// nothing of what is in the files.
package tail

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"
)

// poll is how often a followed file is looked at.
const poll = 100 * time.Millisecond

// Reader reads several files as one. It is for one goroutine.
type Reader struct {
	ctx   context.Context
	path  string     // of the newest file, by which it is followed
	files []*os.File // still to be read, the oldest first
	ended func() bool
	at    int64  // how far the first of files is read
	name  string // of the first of files, see nameOf; "" until it is asked for
}

// Open opens the files at paths, the oldest first; those that are not there are
// left out. Without ended the Reader gives what is there and io.EOF. Otherwise
// it goes on with what is written to the last path later, be it into the same
// file or into others that are put in its place, until ended has said yes and
// everything from before that is read, which is io.EOF, or until ctx ends, with
// its error.
func Open(ctx context.Context, paths []string, ended func() bool) (*Reader, error) {
	r := &Reader{ctx: ctx, path: paths[len(paths)-1], ended: ended}
	// The newest first: what is rotated meanwhile is then seen under both names, and
	// not missed.
	for i := len(paths) - 1; i >= 0; i-- {
		f, err := os.Open(paths[i])
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, errors.Join(err, r.Close())
		}
		if len(r.files) > 0 && same(f, r.files[0]) {
			_ = f.Close() // rotated between the two
			continue
		}
		if len(r.files) > 0 && same(f, r.files[0]) {
			_ = f.Close()
			continue
		}
		r.files = append([]*os.File{f}, r.files...)
	}
	return r, nil
}

// Close closes the files.
func (r *Reader) Close() error {
	var errs []error
	for _, f := range r.files {
		errs = append(errs, f.Close())
	}
	r.files = nil
	return errors.Join(errs...)
}

// Read is io.Reader's.
func (r *Reader) Read(p []byte) (int, error) {
	for {
		over := r.ended == nil || r.ended() // asked before the read
		if n, err := r.readNow(p); n > 0 || err != nil {
			return n, err
		}
		if r.next() {
			continue
		}
		if over {
			return 0, io.EOF
		}
		select {
		case <-r.ctx.Done():
			return 0, r.ctx.Err()
		case <-time.After(poll):
		}
	}
}

// readNow reads what is there of the oldest file.
func (r *Reader) readNow(p []byte) (int, error) {
	if len(r.files) == 0 {
		return 0, nil
	}
	if info, err := r.files[0].Stat(); err == nil && info.Size() < r.at {
		if _, err := r.files[0].Seek(0, io.SeekStart); err != nil { // it was truncated
			return 0, err
		}
		r.at, r.name = 0, ""
	}
	n, err := r.files[0].Read(p)
	r.at += int64(n)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// next goes on to the next file, when the oldest is read to its end and another
// is there or has its name.
func (r *Reader) next() bool {
	if len(r.files) > 1 {
		_ = r.files[0].Close()
		r.files, r.at, r.name = r.files[1:], 0, ""
		return true
	}
	if r.ended == nil {
		return false
	}
	f, err := os.Open(r.path)
	if err != nil {
		return false // it is just being replaced
	}
	if len(r.files) > 0 && same(f, r.files[0]) {
		_ = f.Close()
		return false
	}
	if len(r.files) > 0 && r.grown() { // before it was renamed, after our last read
		_ = f.Close()
		return true
	}
	_ = r.Close()
	r.files, r.at, r.name = []*os.File{f}, 0, ""
	return true
}

func (r *Reader) grown() bool {
	info, err := r.files[0].Stat()
	return err == nil && info.Size() > r.at
}

func same(a, b *os.File) bool {
	ia, err1 := a.Stat()
	ib, err2 := b.Stat()
	return err1 == nil && err2 == nil && os.SameFile(ia, ib)
}
