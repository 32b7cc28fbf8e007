package oci

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"os"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"banger.dev/banger"
)

// Stored is a layer that is here. Its Open gives the tar in it; whoever reads
// that to its end gets an error if it is not what the image says.
type Stored struct {
	Path   string
	DiffID string // 64 hex digits; "" is anything

	Offset, Size int64 // of the layer in the file; 0, 0 is the whole file
}

// Stored are the layers of an image, which Fetch has brought.
func (c *Client) Stored(image *Image) []Stored {
	var list []Stored
	for _, l := range image.Layers {
		list = append(list, Stored{Path: c.path(l), DiffID: l.DiffID.Hex})
	}
	return list
}

// Open decompresses the layer.
func (s Stored) Open() (io.ReadCloser, error) {
	f, err := os.Open(s.Path)
	if err != nil {
		return nil, err
	}
	plain, end, err := Decompress(s.part(f))
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	o := &opened{r: plain, want: s.DiffID, close: func() error { end(); return f.Close() }}
	if s.DiffID != "" {
		o.sum = sha256.New()
	}
	return o, nil
}

func (s Stored) part(f *os.File) io.Reader {
	if s.Offset == 0 {
		return f
	}
	return io.NewSectionReader(f, s.Offset, s.Size)
}

// maxWindow bounds the memory that a zstd stream may ask for.
const maxWindow = 128 << 20

// Decompress tells by its first bytes how a tar is compressed, if it is.
func Decompress(r io.Reader) (plain io.Reader, end func(), err error) {
	buffered := bufio.NewReaderSize(r, 256<<10)
	magic, err := buffered.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, err
	}
	switch {
	case len(magic) >= 2 && magic[0] == 0x1f && magic[1] == 0x8b:
		z, err := gzip.NewReader(buffered)
		if err != nil {
			return nil, nil, broken(err)
		}
		return bent{z}, func() { _ = z.Close() }, nil
	case string(magic) == "\x28\xb5\x2f\xfd":
		z, err := zstd.NewReader(buffered, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, nil, broken(err)
		}
		return bent{z}, z.Close, nil
	}
	return buffered, func() {}, nil
}

// bent says of a decompressor's errors whose fault they are.
type bent struct{ r io.Reader }

func (b bent) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = broken(err)
	}
	return n, err
}

func broken(err error) error {
	var known *os.PathError
	if errors.As(err, &known) {
		return err
	}
	return banger.Errorf(banger.KindInvalid, "decompress it: %w", err)
}

// opened sums up a tar while it is read.
type opened struct {
	r     io.Reader
	sum   hash.Hash // nil: it need not be any
	want  string
	close func() error
}

func (o *opened) Read(p []byte) (int, error) {
	n, err := o.r.Read(p)
	if o.sum == nil {
		return n, err
	}
	o.sum.Write(p[:n])
	if err == io.EOF {
		if got := hex.EncodeToString(o.sum.Sum(nil)); got != o.want {
			return n, banger.Errorf(banger.KindInvalid, "a layer holds another tar than the image says: sha256:%s, not sha256:%s", got, o.want)
		}
	}
	return n, err
}

func (o *opened) Close() error { return o.close() }
