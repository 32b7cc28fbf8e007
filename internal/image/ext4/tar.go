package ext4

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/userns"
)

// FromTar makes a file system of an uncompressed tar, read to its end. Owners,
// modes, times (to the second), user.* and security.capability attributes,
// ACLs, hard links and holes are kept; what is under /dev is left out, and so
// are device nodes elsewhere where the kernel allows none. A member that would
// land outside the root is refused. The reader must end when ctx does. path is
// there whole (mode 0644) or not at all.
func FromTar(ctx context.Context, path string, r io.Reader, opts Options) (err error) {
	work, err := os.MkdirTemp(filepath.Dir(path), "."+filepath.Base(path)+".*"+TreeSuffix)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, removeNow(ctx, work)) }()
	// The parent stays 0700: nobody else reaches the set-user-id programs in it.
	root := filepath.Join(work, "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		return err
	}
	need, err := extract(ctx, root, r, opts)
	if err != nil {
		return err
	}
	return makeFile(ctx, path, root, need.size(), opts, false)
}

// TreeSuffix ends the name of the directory that FromTar unpacks into, beside
// its target. A killed FromTar leaves it; RemoveTree takes it away.
const TreeSuffix = ".tree"

// RemoveTree removes a directory with files of subordinate owners, which a
// plain user cannot remove as itself. It is nil when there is no such directory.
func RemoveTree(ctx context.Context, dir string) error {
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if os.RemoveAll(dir) == nil {
		return nil
	}
	rm, err := userns.Find("rm", "coreutils")
	if err != nil {
		return err
	}
	if err := (userns.Command{Argv: []string{rm, "-rf", "--one-file-system", "--", dir}}).Run(ctx); err != nil {
		return fmt.Errorf("remove %s: %w", dir, err)
	}
	return nil
}

// removeTimeout bounds the removal of a tree after its context has ended.
const removeTimeout = time.Minute

func removeNow(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTimeout)
	defer cancel()
	return RemoveTree(ctx, dir)
}

// extract unpacks a tar into root with GNU tar, whose own protections keep
// members inside: it takes leading slashes away, refuses "..", and makes
// symbolic links that point out only after everything else.
func extract(ctx context.Context, root string, r io.Reader, opts Options) (*estimate, error) {
	program, err := userns.Find("tar", "tar")
	if err != nil {
		return nil, err
	}
	in, out, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	type scanned struct {
		need *estimate
		err  error
	}
	done := make(chan scanned, 1)
	go func() {
		need, err := scan(out, r, opts)
		done <- scanned{need, errors.Join(err, out.Close())}
	}()
	complaints := &complaints{}
	err = userns.Command{Argv: tarArguments(program, root), Stdin: in, Stderr: complaints}.Run(ctx)
	_ = in.Close() // a writer that still has something gets EPIPE
	s := <-done
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case s.err != nil && !errors.Is(s.err, syscall.EPIPE):
		return nil, s.err
	case err != nil && !complaints.onlyNodes():
		return nil, fmt.Errorf("unpack the tar: %w", err)
	}
	return s.need, nil
}

func tarArguments(program, root string) []string {
	return []string{
		program, "--extract", "--file=-", "--directory=" + root, "--numeric-owner", "--same-owner", "--same-permissions",
		"--xattrs", "--xattrs-include=user.*", "--xattrs-include=security.capability", "--acls", "--delay-directory-restore",
		"--warning=no-timestamp", "--warning=no-unknown-keyword", "--anchored", "--wildcards", "--exclude=./dev/*", "--exclude=dev/*", "--exclude=/dev/*",
	}
}

// maxTrailer bounds what may follow the end of an archive: its padding.
const maxTrailer = 16 << 20

// scan copies a tar to w while reading it, and says what its files need.
func scan(w io.Writer, r io.Reader, opts Options) (*estimate, error) {
	limit := opts.Size
	if limit == 0 {
		limit = banger.DefaultDisk
	}
	counted := &limited{r: r, left: int64(limit), limit: limit}
	members := tar.NewReader(io.TeeReader(counted, w))
	need := &estimate{}
	for {
		before := counted.left
		header, err := members.Next()
		// What was read is the member before this one, holes left out.
		need.grow(before - counted.left)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			var known *banger.Error
			if errors.As(err, &known) || !errors.Is(err, tar.ErrHeader) && !errors.Is(err, io.ErrUnexpectedEOF) {
				return need, err
			}
			return need, banger.Errorf(banger.KindInvalid, "this is not a whole tar archive: %w", err)
		}
		need.add(0, len(header.Name))
		if opts.Visit != nil {
			opts.Visit(header)
		}
	}
	if need.inodes == 0 {
		return need, banger.Errorf(banger.KindInvalid, "the tar archive is empty")
	}
	if n, err := io.CopyN(io.Discard, r, maxTrailer); err == nil && n == maxTrailer {
		return need, banger.Errorf(banger.KindInvalid, "more than %s follow the end of the tar archive", banger.Bytes(maxTrailer))
	} else if err != nil && !errors.Is(err, io.EOF) {
		return need, err
	}
	return need, nil
}

// limited refuses what cannot fit anyhow.
type limited struct {
	r     io.Reader
	left  int64
	limit banger.Bytes
}

func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, banger.Errorf(banger.KindInvalid, "the contents do not fit on a disk of %s", l.limit)
	}
	n, err := l.r.Read(p[:min(int64(len(p)), l.left)])
	l.left -= int64(n)
	return n, err
}

// complaints looks through what tar says on stderr.
type complaints struct {
	line  []byte
	nodes int
	other int
}

// maxLine bounds the part of a line that is looked at.
const maxLine = 8 << 10

func (c *complaints) Write(p []byte) (int, error) {
	for _, b := range p {
		switch {
		case b == '\n':
			c.judge(string(c.line))
			c.line = c.line[:0]
		case len(c.line) < maxLine:
			c.line = append(c.line, b)
		}
	}
	return len(p), nil
}

func (c *complaints) judge(line string) {
	switch {
	case strings.HasSuffix(line, ": Cannot mknod: Operation not permitted"):
		c.nodes++
	case strings.HasSuffix(line, ": Exiting with failure status due to previous errors"),
		strings.HasSuffix(line, ": Removing leading `/' from member names"):
	default:
		c.other++
	}
}

// onlyNodes says that tar failed for nothing but device nodes: devtmpfs makes
// those that a guest needs.
func (c *complaints) onlyNodes() bool { return c.nodes > 0 && c.other == 0 }
