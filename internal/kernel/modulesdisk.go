package kernel

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"banger.dev/banger"
	"banger.dev/banger/internal/agent/wire"
	"banger.dev/banger/internal/image/ext4"
	"banger.dev/banger/internal/image/layer"
)

// modulesDiskSize is that of every modules disk: more than a kernel's packages can
// fill. What is not filled is a hole in the file.
const modulesDiskSize = 8 * banger.GiB

// writeModulesDisk makes the file system that is mounted read-only at
// /lib/modules in a guest, of the directory modules.
func writeModulesDisk(ctx context.Context, file, modules string, agent Agent) error {
	r, w := io.Pipe()
	defer context.AfterFunc(ctx, func() { _ = w.CloseWithError(ctx.Err()) })()
	packed := make(chan error, 1)
	go func() {
		err := packModules(w, modules)
		_ = w.CloseWithError(err) // nil is the end
		packed <- err
	}()
	limits := layer.Limits{Entries: 2 * maxPackageEntries, Size: 2 * maxPackageBytes}
	_, err := ext4.FromTar(ctx, file, r, limits, ext4.Options{Size: modulesDiskSize, Label: "modules", ReadOnly: true})
	_ = r.CloseWithError(err)
	if err := errors.Join(err, <-packed); err != nil {
		return fmt.Errorf("make the modules disk: %w", err)
	}
	return appendServer(file, agent)
}

// packModules writes a tar of the directory modules. Everything in it becomes
// root's and can be read by all, as a package has it: here it was written under
// the daemon's umask.
func packModules(w io.Writer, modules string) error {
	archive := tar.NewWriter(w)
	err := filepath.WalkDir(modules, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(modules, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return archive.WriteHeader(&tar.Header{Name: name + "/", Typeflag: tar.TypeDir, Mode: 0o755})
		}
		return packFile(archive, path, name)
	})
	return errors.Join(err, archive.Close())
}

func packFile(archive *tar.Writer, path, name string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := archive.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: info.Size()}); err != nil {
		return err
	}
	_, err = io.Copy(archive, f)
	return err
}

// appendServer puts the agent's ssh server behind the file system.
func appendServer(file string, agent Agent) error {
	if len(agent.ssh) == 0 {
		return nil
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	err = wire.AppendServer(f, agent.ssh)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// siblingModulesDisk makes the modules disk to, which differs from the one of an
// earlier agent in its ssh server alone, or not at all.
func siblingModulesDisk(from, to string, agent Agent) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	size, old := info.Size(), []byte(nil)
	if server, err := wire.FindServer(f, size); err == nil {
		if old, err = io.ReadAll(server); err != nil {
			return err
		}
		_, size, _ = server.Outer() // the offset of the server
	}
	if bytes.Equal(old, agent.ssh) {
		return linkOrCopy(from, to)
	}
	if err := copySparse(to, f, size); err != nil {
		return err
	}
	return appendServer(to, agent)
}
