package kernel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"banger.dev/banger/internal/agent/wire"
	"banger.dev/banger/internal/image/ext4"
)

// writeModulesDisk makes the file system that is mounted read-only at
// /lib/modules in a guest, of the directory modules.
func writeModulesDisk(ctx context.Context, file, modules string, agent Agent) error {
	if err := ext4.FromDir(ctx, file, modules, ext4.Options{Label: "modules"}); err != nil {
		return fmt.Errorf("make the modules disk: %w", err)
	}
	return appendServer(file, agent)
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
	if err := writeFile(to, func(w io.Writer) error {
		_, err := io.Copy(w, io.NewSectionReader(f, 0, size))
		return err
	}); err != nil {
		return err
	}
	return appendServer(to, agent)
}
