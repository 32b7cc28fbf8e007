// Package ext4 makes ext4 file systems in files, without root and without
// mounting anything: empty, from a tar, from the layers of an image. mke2fs makes the empty file system; what a tar has in it is written
// here, for no program does that without unpacking it first. It never touches a
// file system that exists.
package ext4

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"banger.dev/banger"
	"banger.dev/banger/internal/userns"
)

// Options are what a caller can say of a file system.
type Options struct {
	Size  banger.Bytes // of the file, which is sparse
	Label string       // at most 16 bytes
	// ReadOnly is for one that nobody writes to: it has no journal and cannot be grown.
	ReadOnly bool
}

// blockSize is the one every file system gets, whatever its size.
const blockSize = 4096

// Empty makes an empty file system of opts.Size in path. It can be grown while
// mounted. path is there whole (mode 0644) or not at all.
func Empty(ctx context.Context, path string, opts Options) error {
	return makeFile(ctx, path, opts, nil)
}

// makeFile runs mke2fs on a temporary file beside path, has fill do the rest
// unless it is nil, and moves the file to its place.
func makeFile(ctx context.Context, path string, opts Options, fill func(*os.File) error) (err error) {
	if opts.Size == 0 {
		return banger.Errorf(banger.KindInvalid, "the file system %s needs a size", path)
	}
	mke2fs, err := userns.Find("mke2fs", "e2fsprogs")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	defer func() {
		_ = f.Close()
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	argv := append([]string{mke2fs}, arguments(f.Name(), opts)...)
	cmd := userns.Command{Argv: argv, Alone: true, Env: append(userns.Environ(), "MKE2FS_SYNC=0", "MKE2FS_CONFIG=/dev/null")}
	if err := cmd.Run(ctx); err != nil {
		return fmt.Errorf("make the file system %s: %w", path, err)
	}
	if fill != nil {
		if err := fill(f); err != nil {
			return err
		}
	}
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// arguments is mke2fs's command line. The features are spelled out so that the
// host's mke2fs.conf, set aside, has no say: those of a Debian 12 ext4, which
// every kernel since 4.4 mounts and grows online.
func arguments(file string, opts Options) []string {
	features := "none,ext_attr,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum"
	if !opts.ReadOnly {
		features += ",has_journal,resize_inode"
	}
	args := []string{"-q", "-F", "-T", "default", "-b", strconv.Itoa(blockSize), "-I", "256", "-i", "16384", "-m", "0",
		"-O", features, "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0"}
	if opts.Label != "" {
		args = append(args, "-L", opts.Label)
	}
	return append(args, file, strconv.FormatInt(int64(opts.Size)/1024, 10)+"k")
}

// syncDir makes a rename in dir last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	return d.Sync()
}

// Sweep removes what a killed maker of path has left beside it. The caller sees
// to it that nobody is making path at the same time.
func Sweep(path string) error {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return err
	}
	var failed []error
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "."+filepath.Base(path)+".") {
			failed = append(failed, os.Remove(filepath.Join(filepath.Dir(path), e.Name())))
		}
	}
	return errors.Join(failed...)
}
