package image

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"banger.dev/banger"
	"banger.dev/banger/internal/image/layer"
	"banger.dev/banger/internal/image/oci"
	"banger.dev/banger/internal/steps"
	"banger.dev/banger/internal/until"
)

// Import makes an image of what docker save writes, of a tar of an OCI layout or
// of a tar of a root, and gives it a local name as AddTar does. The tar may be
// compressed. Nobody says which it is: that is seen once all of it is here. The
// reader must end when ctx does.
func (s *Store) Import(ctx context.Context, name string, r io.Reader, report banger.ProgressFunc) (banger.Image, error) {
	return s.makeNamed(ctx, name, report, func(w *work) (banger.Image, error) { return w.take(ctx, r) })
}

func (w *work) take(ctx context.Context, r io.Reader) (banger.Image, error) {
	f, err := os.OpenFile(filepath.Join(w.dir, "archive"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return banger.Image{}, err
	}
	defer func() { _ = f.Close() }()
	err = w.run(ctx, steps.Step{Name: "image.receive", Do: func(context.Context) error {
		return spool(f, &reading{Reader: r, report: w.report, message: "receive"}, w.store.settings().Limits)
	}})
	if err != nil {
		return banger.Image{}, err
	}
	found, layers, err := oci.ReadArchive(f)
	if err != nil {
		return banger.Image{}, err
	}
	if found == nil {
		_, err := f.Seek(0, io.SeekStart)
		if err != nil {
			return banger.Image{}, err
		}
		return w.add(ctx, until.Done(ctx, f), Config{Source: "tar"})
	}
	img, err := w.store.load(found.Digest)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errDamaged) {
		return w.addLayers(ctx, found, layers, nil)
	}
	return img, err
}

// headers is what the members of a tar may take beside their contents, each.
const headers = 4096

// spool keeps an archive, decompressed, and of its zeros nothing.
func spool(f *os.File, r io.Reader, limits layer.Limits) error {
	plain, end, err := decompress(r)
	if err != nil {
		return err
	}
	defer end()
	most := int64(limits.Size) + int64(limits.Entries)*headers
	var buf, zero [64 << 10]byte
	for at := int64(0); ; {
		n, err := plain.Read(buf[:])
		if at += int64(n); at > most {
			return banger.Errorf(banger.KindInvalid, "the archive unpacks to more than %s", banger.Bytes(most)).
				WithNext("banger config show, and images.max_size for a larger limit")
		}
		if !bytes.Equal(buf[:n], zero[:n]) {
			if _, err := f.WriteAt(buf[:n], at-int64(n)); err != nil {
				return banger.Errorf(banger.KindUnavailable, "keep the archive: %w", err)
			}
		}
		switch {
		case err == io.EOF: // what is cut off has another error
			return errors.Join(f.Truncate(at), whole(f, at))
		case err != nil:
			return banger.Errorf(banger.KindInvalid, "read the archive: %w", err)
		}
	}
}

// whole says whether an archive of this size ends as a tar does. One that is cut
// off between two members would be read without an error.
func whole(f *os.File, size int64) error {
	if size == 0 {
		return banger.Errorf(banger.KindInvalid, "the archive is empty")
	}
	var end, zero [1024]byte
	if _, err := f.ReadAt(end[:], max(0, size-int64(len(end)))); err != nil || end != zero {
		return banger.Errorf(banger.KindInvalid, "the archive is no tar, or it is cut off: it does not end as a tar does")
	}
	return nil
}

// decompress is oci.Decompress, which says of what it does not know who does.
func decompress(r io.Reader) (plain io.Reader, end func(), err error) {
	buffered := bufio.NewReader(r)
	magic, _ := buffered.Peek(6) // what is wrong comes again
	for name, begin := range map[string]string{"xz": "\xfd7zXZ\x00", "bzip2": "BZh"} {
		if bytes.HasPrefix(magic, []byte(begin)) {
			return nil, nil, banger.Errorf(banger.KindInvalid, "the archive is compressed by %s; gzip and zstd are known", name).
				WithNext("%s -dc FILE | banger image import --name NAME", name)
		}
	}
	return oci.Decompress(buffered)
}
