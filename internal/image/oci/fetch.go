package oci

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"banger.dev/banger"
)

const (
	parallel   = 3 // layers at a time
	tries      = 5 // without a byte more than ever, until a layer is given up
	firstPause = 200 * time.Millisecond
)

// Fetch brings an image's layers that are not here. Those that are half here
// are gone on with. Locked is called with a layer's name and holds it against
// others as long as it is being fetched.
func (c *Client) Fetch(ctx context.Context, image *Image, locked func(name string, do func() error) error) error {
	if err := os.MkdirAll(c.Layers, 0o755); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	shown := &shown{report: c.Report, done: make([]int64, len(image.Layers))}
	for _, l := range image.Layers {
		shown.total += l.Size
	}
	for i, l := range image.Layers {
		f := fetch{c: c, image: image, layer: l, path: c.path(l), shown: shown, index: i}
		group.Go(func() error {
			if f.isHere() {
				return nil
			}
			return locked("layer-"+l.Digest.Hex, func() error { return f.run(ctx) })
		})
	}
	return group.Wait()
}

func (c *Client) path(l Layer) string { return filepath.Join(c.Layers, l.Digest.Hex) }

// shown is how far the layers of an image are.
type shown struct {
	report banger.ProgressFunc
	total  int64

	mu   sync.Mutex // guards done, and orders the reports
	done []int64
}

func (s *shown) set(index int, layer Layer, done int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done[index] = done
	sum := int64(0)
	for _, d := range s.done {
		sum += d
	}
	s.report.Report(banger.Progress{
		Stage: "image", Message: fmt.Sprintf("layer %d of %d (%.12s)", index+1, len(s.done), layer.Digest.Hex), Done: sum, Total: s.total, Bytes: true,
	})
}

// fetch is the fetching of one layer.
type fetch struct {
	c     *Client
	image *Image
	layer Layer
	path  string
	shown *shown
	index int
}

func (f *fetch) isHere() bool {
	st, err := os.Stat(f.path)
	if err == nil && st.Size() == f.layer.Size {
		f.shown.set(f.index, f.layer, f.layer.Size)
		return true
	}
	return false
}

// partial ends the name of a layer that is not whole.
const partial = ".part"

// run fetches the layer, with as many requests as it takes.
func (f *fetch) run(ctx context.Context) error {
	if f.isHere() {
		return nil // somebody else has fetched it
	}
	out, err := os.OpenFile(f.path+partial, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer func() { _ = out.Close() }()
	sum := sha256.New()
	have, err := io.Copy(sum, io.LimitReader(out, f.layer.Size))
	if err != nil {
		return err
	}
	for failures, pause, most := 0, firstPause, have; have < f.layer.Size; {
		have, err = f.request(ctx, out, sum, have)
		if err == nil {
			continue
		}
		if failures++; have > most {
			failures, pause, most = 0, firstPause, have
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var known *banger.Error
		if errors.As(err, &known) || failures >= tries {
			return explain(f.image.place, fmt.Errorf("its layer %s: %w", f.layer.Digest, err))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		pause *= 2
	}
	return f.keep(out, sum)
}

// request asks for what is missing, and writes what comes.
func (f *fetch) request(ctx context.Context, out *os.File, sum hash.Hash, have int64) (int64, error) {
	where := f.image.place.Context()
	url := fmt.Sprintf("%s://%s/v2/%s/blobs/%s", where.Scheme(), where.RegistryStr(), where.RepositoryStr(), f.layer.Digest)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return have, err
	}
	r.Header.Set(layerHeader, "1")
	if have > 0 {
		r.Header.Set("Range", fmt.Sprintf("bytes=%d-", have))
	}
	reply, err := (&http.Client{Transport: f.image.way}).Do(r)
	if err != nil {
		return have, err
	}
	defer func() { _ = reply.Body.Close() }()
	switch code := reply.StatusCode; {
	case code == http.StatusPartialContent && have > 0 && f.goesOn(reply, have):
	case code == http.StatusOK: // also where it knows nothing of ranges
		sum.Reset()
		have = 0
	case have > 0 && (code == http.StatusPartialContent || code == http.StatusRequestedRangeNotSatisfiable):
		sum.Reset()
		return 0, errors.Join(fmt.Errorf("the registry sends another part of it than %d bytes and on", have), out.Truncate(0))
	case code == http.StatusNotFound:
		return have, banger.Errorf(banger.KindInvalid, "the layer %s of its manifest is not there", f.layer.Digest)
	default:
		return have, fmt.Errorf("the registry answers %s", reply.Status)
	}
	return f.copy(out, sum, reply.Body, have)
}

// goesOn says whether an answer is what is behind the bytes that there are, and of
// a layer of this size.
func (f *fetch) goesOn(reply *http.Response, have int64) bool {
	var first, last int64
	var size string
	n, _ := fmt.Sscanf(reply.Header.Get("Content-Range"), "bytes %d-%d/%s", &first, &last, &size)
	return n == 3 && first == have && last < f.layer.Size && (size == "*" || size == strconv.FormatInt(f.layer.Size, 10))
}

// copy writes what comes behind what is there, and not a byte more than there is to be.
func (f *fetch) copy(out *os.File, sum hash.Hash, r io.Reader, have int64) (int64, error) {
	buf := make([]byte, 256<<10)
	for {
		n, err := r.Read(buf)
		if int64(n) > f.layer.Size-have {
			return have, banger.Errorf(banger.KindInvalid, "the layer %s is longer than the %d bytes of its manifest", f.layer.Digest, f.layer.Size)
		}
		if n > 0 {
			if _, err := out.WriteAt(buf[:n], have); err != nil {
				return have, banger.Errorf(banger.KindUnavailable, "write a layer: %w", err)
			}
			sum.Write(buf[:n])
			have += int64(n)
			f.shown.set(f.index, f.layer, have)
		}
		switch {
		case err == io.EOF && have < f.layer.Size:
			return have, io.ErrUnexpectedEOF
		case err == io.EOF:
			return have, nil
		case err != nil:
			return have, err
		}
	}
}

// keep gives a whole layer its name, if it is what its digest says.
func (f *fetch) keep(out *os.File, sum hash.Hash) error {
	if got := hex.EncodeToString(sum.Sum(nil)); got != f.layer.Digest.Hex {
		_ = os.Remove(out.Name())
		return banger.Errorf(banger.KindInvalid, "the image %s: its layer %s has the digest sha256:%s", f.image.place.Name(), f.layer.Digest, got)
	}
	// Each only after the one before it: by its name and size a layer is taken for whole.
	err := out.Truncate(f.layer.Size)
	if err == nil {
		err = out.Sync()
	}
	if err == nil {
		err = os.Rename(out.Name(), f.path)
	}
	return err
}
