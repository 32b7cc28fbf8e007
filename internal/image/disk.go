package image

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"

	"banger.dev/banger"
	"banger.dev/banger/internal/agent/archive"
	"banger.dev/banger/internal/image/ext4"
	"banger.dev/banger/internal/image/layer"
	"banger.dev/banger/internal/paths"
)

// Register makes an image of an ext4 file system that somebody else has made, and
// gives it a local name as AddTar does. r has it in a tar, so that its holes do
// not travel. The reader must end when ctx does.
func (s *Store) Register(ctx context.Context, name string, r io.Reader, report banger.ProgressFunc) (banger.Image, error) {
	return s.makeNamed(ctx, name, report, func(w *work) (banger.Image, error) {
		return w.addDisk(ctx, Config{Source: "ext4"}, func(path string, limits layer.Limits) error {
			return receive(path, &bounded{r, int64(limits.Size)})
		}, ext4.Check)
	})
}

// Commit makes an image of a disk of this size that lies over another image;
// write gives what is on the disk. Commands are run as in the image below. It has
// no name: see Name. Where two make one of the same VM, one waits.
func (s *Store) Commit(ctx context.Context, vm string, below banger.Image, size banger.Bytes, write func(context.Context, io.WriterAt) error, report banger.ProgressFunc) (banger.Image, error) {
	w, err := s.begin(ctx, "commit-"+paths.CacheKey(vm), vm, report)
	if err != nil {
		return banger.Image{}, err
	}
	defer w.end()
	return w.addDisk(ctx, Config{
		Source: "commit of " + vm, Architecture: below.Architecture, Env: below.Env, Workdir: below.Workdir,
		User: below.User, Entrypoint: below.Entrypoint, Cmd: below.Cmd,
	}, func(path string, _ layer.Limits) error {
		report.Report(banger.Progress{Stage: stage, Message: "copy the disk of " + vm})
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		return errors.Join(f.Truncate(int64(size)), write(ctx, f), f.Close())
	}, ext4.Mend)
}

// addDisk makes an image of a file system that put writes to a file and check
// judges.
func (w *work) addDisk(ctx context.Context, config Config, put func(path string, limits layer.Limits) error, check func(context.Context, *os.File) error) (banger.Image, error) {
	config.Architecture = cmp.Or(config.Architecture, runtime.GOARCH)
	return w.make(ctx, config, func(path string, limits layer.Limits) (m made, err error) {
		if err := put(path, limits); err != nil {
			return m, err
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return m, err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		if m.size, err = ext4.Measure(f); err != nil {
			return m, err
		}
		if err := errors.Join(f.Truncate(int64(m.size)), f.Chmod(0o644)); err != nil {
			return m, err
		}
		w.report.Report(banger.Progress{Stage: stage, Message: "check the file system"})
		if err := check(ctx, f); err != nil {
			return m, err
		}
		if m.init, err = ext4.FirstOf(ctx, f, candidates[:]); err != nil {
			return m, err
		}
		m.digest, err = digestOf(ctx, f, int64(m.size), config)
		return m, errors.Join(err, f.Sync())
	})
}

// receive makes the file at path of a tar that holds it alone, by its name.
func receive(path string, r io.Reader) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	u := archive.Unpacker{Each: func(name string, hdr *tar.Header) error {
		if name != filepath.Base(path) || hdr.Typeflag != tar.TypeReg || hdr.Size > int64(banger.MaxDisk) {
			return banger.Errorf(banger.KindInvalid, "it must be a file of at most %s", banger.MaxDisk)
		}
		return nil
	}}
	err = u.Unpack(dir, r)
	if known := (*banger.Error)(nil); err == nil && u.Entries == 0 {
		err = banger.Errorf(banger.KindInvalid, "no file came")
	} else if err != nil && !errors.As(err, &known) {
		err = banger.Errorf(banger.KindInvalid, "receive the file: %w", err)
	}
	return err
}

// bounded is a reader that gives at most so much.
type bounded struct {
	r    io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, banger.Errorf(banger.KindInvalid, "it has more data than images.max_size allows").WithNext("banger config show")
	}
	return n, err
}

// digestOf names a file system by its data. How its holes lie makes no difference:
// of a piece that is all zeros only that it is there is summed up.
func digestOf(ctx context.Context, f *os.File, size int64, config Config) (string, error) {
	sum := sha256.New()
	_ = binary.Write(sum, binary.BigEndian, size)
	piece, zero := make([]byte, 64<<10), make([]byte, 64<<10)
	for at := int64(0); at < size; {
		data, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break // a hole up to the end
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return "", err
		}
		at = data - data%int64(len(piece))
		n, err := f.ReadAt(piece, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return "", err
		}
		if !bytes.Equal(piece[:n], zero[:n]) {
			_ = binary.Write(sum, binary.BigEndian, at)
			sum.Write(piece[:n])
		}
		at += int64(len(piece))
	}
	config.Source = "" // of whatever VM or file it is
	return config.seal(sum)
}
