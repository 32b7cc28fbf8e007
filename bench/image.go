package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/image/ext4"
	"banger.dev/banger/internal/image/layer"
)

// image makes a file system of a tar of the default image, beside GNU tar and
// mkfs.ext4. They take turns.
func (b *bench) image(ctx context.Context) error {
	dir, packed, err := b.packed(ctx)
	defer func() { _ = os.RemoveAll(dir) }()
	if err != nil {
		return err
	}
	var ours, theirs []float64
	for range b.rounds {
		begin := time.Now()
		if err := fromTar(ctx, packed, filepath.Join(dir, "ours")); err != nil {
			return err
		}
		ours = append(ours, time.Since(begin).Seconds())
		begin = time.Now()
		script := `mkdir tree && tar -C tree -xf root.tar && mkfs.ext4 -q -E lazy_itable_init=1,lazy_journal_init=1,nodiscard -d tree theirs 20G && sync theirs`
		cmd := exec.CommandContext(ctx, "sh", "-c", script)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("tar and mkfs.ext4: %w\n%s", err, out)
		}
		theirs = append(theirs, time.Since(begin).Seconds())
		for _, made := range []string{"ours", "theirs", "tree"} {
			if err := os.RemoveAll(filepath.Join(dir, made)); err != nil {
				return err
			}
		}
	}
	b.report.compare("tar of the default image to ext4", "s", median(ours), median(theirs), 0.6, true)
	return nil
}

// packed is a directory of its own with a tar of the default image in it.
func (b *bench) packed(ctx context.Context) (dir, tar string, err error) {
	if dir, err = os.MkdirTemp("", "bng-image-"); err != nil {
		return "", "", err
	}
	tar = filepath.Join(dir, "root.tar")
	if err = b.pack(ctx, tar); err != nil {
		err = fmt.Errorf("pack the default image: %w", err)
	}
	return dir, tar, err
}

// pack has a VM of the default image write its root to a file.
func (b *bench) pack(ctx context.Context, path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	cmd := b.banger(ctx, "vm", "run", "--rm", "--work", "none", "--", "tar", "--one-file-system", "-C", "/", "-cf", "-", ".")
	cmd.Stdout = f
	return cmd.Run()
}

func fromTar(ctx context.Context, packed, path string) error {
	f, err := os.Open(packed)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	_, err = ext4.FromTar(ctx, path, f, layer.DefaultLimits(), ext4.Options{Size: banger.DefaultDisk})
	return err
}
