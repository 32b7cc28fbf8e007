package kernel

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"banger.dev/banger"
	"banger.dev/banger/internal/paths"
	"banger.dev/banger/internal/steps"
	"banger.dev/banger/internal/until"
)

// Import makes a kernel of what a user has, and gives it a name, in place of
// what had that name: of a Debian package, of a tar of an unpacked package or of
// a kernel with its modules, or of a kernel alone, bzImage or uncompressed.
// Nobody says which it is. The reader must end when ctx does.
func (s *Store) Import(ctx context.Context, name string, r io.Reader, report banger.ProgressFunc) (banger.Kernel, error) {
	if err := checkName(name); err != nil {
		return banger.Kernel{}, err
	}
	if err := s.agent.check(); err != nil {
		return banger.Kernel{}, err
	}
	key, lock, err := s.lockBeside(name)
	if err != nil {
		return banger.Kernel{}, err
	}
	defer func() { _ = lock.Close() }()
	if err := s.sweep(ctx, key); err != nil {
		return banger.Kernel{}, err
	}
	dir, err := os.MkdirTemp(s.dir, tmpPrefix+key+"-")
	if err != nil {
		return banger.Kernel{}, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	f, err := os.OpenFile(filepath.Join(dir, "upload"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return banger.Kernel{}, err
	}
	defer func() { _ = f.Close() }()
	report.Report(banger.Progress{Stage: stageKernel, Message: "receive"})
	var sum string
	err = s.Steps.RunUnnamed(ctx, name, steps.Step{Name: "kernel.receive", Do: func(context.Context) (err error) {
		sum, err = spool(f, r)
		return err
	}})
	if err != nil {
		return banger.Kernel{}, err
	}
	if err := s.imported(ctx, f, sum, report); err != nil {
		return banger.Kernel{}, err
	}
	return s.giveName(ctx, name, ref{DebSHA256: sum})
}

// lockBeside locks a place to import a kernel in. Nobody waits for another import
// of the same name, whose client may stand still: each has a place of its own.
func (s *Store) lockBeside(name string) (key string, lock *os.File, err error) {
	for n := 1; ; n++ {
		key = paths.CacheKey("import", name, strconv.Itoa(n))
		lock, err = s.tryLock(key)
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return key, lock, err
		}
	}
}

// spool keeps what a user sends, for it is read twice: to sum it up, and to
// unpack it.
func spool(f *os.File, r io.Reader) (sum string, err error) {
	h := sha256.New()
	_, err = io.Copy(io.MultiWriter(f, h), &capped{r, maxPackageTar})
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	return hex.EncodeToString(h.Sum(nil)), invalid("read the kernel: %w", err)
}

// invalid is what is wrong with what a user has sent, unless err is nil or not
// about that.
func invalid(format string, err error) error {
	var known *banger.Error
	switch {
	case err == nil, errors.As(err, &known), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EIO):
		return banger.Errorf(banger.KindUnavailable, format, err)
	}
	return banger.Errorf(banger.KindInvalid, format, err)
}

// imported makes the kernel of an upload, unless it is here.
func (s *Store) imported(ctx context.Context, f *os.File, sum string, report banger.ProgressFunc) error {
	head := make([]byte, bzHeaderSize)
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if n == 0 {
		return banger.Errorf(banger.KindInvalid, "import the kernel: nothing came")
	}
	source, take := kindOf(head[:n])
	report.Report(banger.Progress{Stage: stageUnpack, Message: "unpack"})
	_, err = s.make(ctx, manifest{Source: source, DebSHA256: sum}, report, func(u *unpacker) error {
		return take(u, until.Done(ctx, f))
	})
	return invalid("import the kernel: %w", err)
}

// kindOf tells by how it begins what an upload is, and how to take it.
func kindOf(head []byte) (source string, take func(u *unpacker, r io.Reader) error) {
	switch {
	case bytes.HasPrefix(head, []byte(debMagic)):
		return "deb", func(u *unpacker, r io.Reader) error { return walkDeb(r, u.visit) }
	case bytes.HasPrefix(head, []byte(elf.ELFMAG)):
		return "vmlinux", (*unpacker).alone
	case len(head) >= bzHeaderSize && string(head[offHeader:offHeader+4]) == "HdrS":
		return "bzImage", (*unpacker).alone
	}
	return "directory", func(u *unpacker, r io.Reader) error {
		if err := walkTar(bufio.NewReader(r), u.visit); err != nil {
			return fmt.Errorf("it is no Debian package, no kernel for x86-64, and as a tar it cannot be read: %w", err)
		}
		return nil
	}
}

// alone takes a kernel that comes without anything.
func (u *unpacker) alone(r io.Reader) error {
	u.image = true
	return u.write(unpackedImage, r)
}
