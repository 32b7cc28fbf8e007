package ext4

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"banger.dev/banger"
	"banger.dev/banger/internal/userns"
)

// Where the superblock has what Measure reads.
const (
	superMagic    = 0x38
	superWritten  = 0x30
	superLogBlock = 0x18
	superBlocks   = 0x04
	superBlocksHi = 0x150
	superIncompat = 0x60

	magic           = 0xef53
	maxLogBlock     = 6 // 64 KiB
	incompatExtents = 0x40
	incompat64bit   = 0x80
)

// Measure is how large the file system says it is that somebody else has made in
// f. It is KindInvalid if that is no ext4, or more than f holds.
func Measure(f *os.File) (banger.Bytes, error) {
	super, err := readSuper(f)
	if err != nil {
		return 0, err
	}
	log, incompat := le.Uint32(super[superLogBlock:]), le.Uint32(super[superIncompat:])
	if log > maxLogBlock {
		return 0, banger.Errorf(banger.KindInvalid, "it is no ext4 file system: its blocks are of no size that there is")
	}
	if incompat&incompatExtents == 0 {
		return 0, banger.Errorf(banger.KindInvalid, "it is an ext2 or ext3 file system, not an ext4 one").
			WithNext("banger image import --name NAME DIR, where it is mounted")
	}
	blocks := uint64(le.Uint32(super[superBlocks:]))
	if incompat&incompat64bit != 0 {
		blocks |= uint64(le.Uint32(super[superBlocksHi:])) << 32
	}
	if blocks > uint64(banger.MaxDisk)>>(10+log) {
		return 0, banger.Errorf(banger.KindInvalid, "it says that it is larger than %s", banger.MaxDisk)
	}
	size := banger.Bytes(blocks << (10 + log))
	if st, err := f.Stat(); err != nil || st.Size() < int64(size) {
		return 0, errors.Join(banger.Errorf(banger.KindInvalid, "it is cut off: it says that it has %s, and the file has %s", size, banger.Bytes(st.Size())), err)
	}
	return size, nil
}

func readSuper(f *os.File) ([]byte, error) {
	super := make([]byte, superSize)
	if _, err := f.ReadAt(super, superOffset); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if le.Uint16(super[superMagic:]) != magic {
		return nil, banger.Errorf(banger.KindInvalid, "it is no ext4 file system; of a whole disk, its partition is one")
	}
	return super, nil
}

// Check says whether a file system that somebody else has made is whole. It
// changes nothing.
func Check(ctx context.Context, f *os.File) error {
	said, err := e2fsck(ctx, f, "-fn")
	if err != nil && ctx.Err() == nil && banger.KindOf(err) == banger.KindInternal {
		return banger.Errorf(banger.KindInvalid, "its file system is damaged, or was in use: %s", said).WithNext("e2fsck -f FILE")
	}
	return err
}

// Mend brings a file system to rest whose kernel was killed: what is in its
// journal is done. The same one gives the same bytes.
func Mend(ctx context.Context, f *os.File) error {
	said, err := e2fsck(ctx, f, "-fy")
	var ended *exec.ExitError
	const mended = 1
	if errors.As(err, &ended) && ended.ExitCode() == mended {
		return nil
	}
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("mend the file system: %w: %s", err, said)
	}
	return err
}

// e2fsck runs the program, and gives the first that it complains of. The time of
// what it writes is the file system's own.
func e2fsck(ctx context.Context, f *os.File, how string) (complaint string, err error) {
	super, err := readSuper(f)
	if err != nil {
		return "", err
	}
	program, err := userns.Find("e2fsck", "e2fsprogs")
	if err != nil {
		return "", err
	}
	said := &begin{}
	now := strconv.FormatUint(uint64(le.Uint32(super[superWritten:])), 10)
	err = userns.Command{
		Argv: []string{program, how, f.Name()}, Alone: true, Stdout: said,
		Env: append(userns.Environ(), "E2FSCK_TIME="+now, "E2FSCK_CONFIG=/dev/null"),
	}.Run(ctx)
	for line := range strings.Lines(said.String()) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "Pass ") {
			return line, err
		}
	}
	return "", err
}

// begin keeps the first that a program says.
type begin struct{ bytes.Buffer }

func (b *begin) Write(p []byte) (int, error) {
	const most = 4 << 10
	_, _ = b.Buffer.Write(p[:min(len(p), most-b.Len())])
	return len(p), nil
}

// FirstOf is the first of these paths that there is in a file system, or "".
func FirstOf(ctx context.Context, f *os.File, paths []string) (string, error) {
	program, err := userns.Find("debugfs", "e2fsprogs")
	if err != nil {
		return "", err
	}
	for _, path := range paths {
		said := &begin{}
		cmd := userns.Command{Argv: []string{program, "-R", "stat " + path, f.Name()}, Alone: true, Stdout: said}
		if err := cmd.Run(ctx); err != nil {
			return "", err
		}
		if strings.Contains(said.String(), "Type: ") && !strings.Contains(said.String(), "Type: directory") {
			return path, nil
		}
	}
	return "", nil
}
