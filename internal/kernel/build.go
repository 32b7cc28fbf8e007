package kernel

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"banger.dev/banger"
	"banger.dev/banger/internal/kernel/depmod"
	"banger.dev/banger/internal/steps"
)

// The stages that progress is reported under.
const (
	stageKernel      = "kernel"
	stageUnpack      = "unpack"
	stageInitramfs   = "initramfs"
	stageModulesDisk = "modules disk"
)

// make gives the kernel of m's source with this program's agent: one that is
// here, one made beside a sibling, or of what take unpacks.
func (s *Store) make(ctx context.Context, m manifest, report banger.ProgressFunc, take func(*unpacker) error) (banger.Kernel, error) {
	if k, _, err := s.open(s.digest(m.DebSHA256)); err == nil {
		return k, nil
	}
	if old := s.siblings(m.DebSHA256); len(old) > 0 {
		return s.buildFromSibling(ctx, old[0], report)
	}
	return s.build(ctx, m, report, func(dir string, m *manifest) error { return s.fill(ctx, dir, m, report, take) })
}

// fill writes the files of a kernel into dir.
func (s *Store) fill(ctx context.Context, dir string, m *manifest, report banger.ProgressFunc, take func(*unpacker) error) error {
	work := filepath.Join(dir, "work")
	u, err := newUnpacker(work)
	if err != nil {
		return err
	}
	defer func() { _ = u.close() }()
	if err := take(u); err != nil {
		return err
	}
	if m.Release, err = u.settle(dir); err != nil {
		return err
	}
	modules := filepath.Join(work, unpackedModules)
	if m.Modules, err = depmod.Generate(ctx, filepath.Join(modules, m.Release), unpackModule); err != nil {
		return fmt.Errorf("index the modules: %w", err)
	}
	report.Report(banger.Progress{Stage: stageInitramfs, Message: "make the initramfs"})
	entries, err := bootModulesEntries(modules, m.Release)
	if err != nil {
		return err
	}
	bootModules := filepath.Join(dir, fileBootModules)
	if err := writeFile(bootModules, func(w io.Writer) error { return writeCPIO(w, entries) }); err != nil {
		return err
	}
	if err := writeInitramfs(filepath.Join(dir, fileInitramfs), bootModules, s.agent); err != nil {
		return err
	}
	report.Report(banger.Progress{Stage: stageModulesDisk, Message: "make the modules disk"})
	if err := writeModulesDisk(ctx, filepath.Join(dir, fileModules), modules, s.agent); err != nil {
		return err
	}
	return os.RemoveAll(work)
}

// fromSibling gives the kernel of a name whose lock is held.
func (s *Store) fromSibling(ctx context.Context, name string, old manifest, report banger.ProgressFunc) (banger.Kernel, error) {
	if _, err := s.buildFromSibling(ctx, old, report); err != nil {
		return banger.Kernel{}, err
	}
	k, _, err := s.named(name)
	return k, err
}

// buildFromSibling makes a kernel that differs from old in its agent alone,
// sharing old's files, the modules disk too if it has the same ssh server.
func (s *Store) buildFromSibling(ctx context.Context, old manifest, report banger.ProgressFunc) (banger.Kernel, error) {
	from := filepath.Join(s.dir, strings.TrimPrefix(old.Digest, "sha256:"))
	return s.build(ctx, old, report, func(dir string, _ *manifest) error {
		report.Report(banger.Progress{Stage: stageInitramfs, Message: "make the initramfs"})
		for _, file := range []string{fileVMLinux, fileConfig, fileBootModules} {
			if err := linkOrCopy(filepath.Join(from, file), filepath.Join(dir, file)); err != nil {
				return err
			}
		}
		if err := siblingModulesDisk(filepath.Join(from, fileModules), filepath.Join(dir, fileModules), s.agent); err != nil {
			return err
		}
		return writeInitramfs(filepath.Join(dir, fileInitramfs), filepath.Join(dir, fileBootModules), s.agent)
	})
}

func linkOrCopy(from, to string) error {
	if os.Link(from, to) == nil {
		return nil
	}
	f, err := os.Open(from) // a file system without hard links, or one too many
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return copySparse(to, f, info.Size())
}

// copySparse makes a file of the first size bytes of another, and leaves its holes.
func copySparse(to string, from *os.File, size int64) error {
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	err = copyData(f, from, size)
	if err == nil {
		err = f.Truncate(size)
	}
	if err == nil {
		err = f.Chmod(0o644) // as writeFile
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func copyData(to, from *os.File, size int64) error {
	for at := int64(0); at < size; {
		data, err := unix.Seek(int(from.Fd()), at, unix.SEEK_DATA)
		if err == unix.ENXIO {
			return nil // the rest is a hole
		}
		if err != nil {
			return err
		}
		hole, err := unix.Seek(int(from.Fd()), data, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		at = min(hole, size)
		if _, err := io.Copy(io.NewOffsetWriter(to, data), io.NewSectionReader(from, data, at-data)); err != nil {
			return err
		}
	}
	return nil
}

// build makes the kernel of m's package under its digest's lock: fill writes the
// files into a directory beside the others, which appears under its name by one
// rename when all of it is on disk. Killed anywhere, nothing is seen of it and
// the next builder sweeps it.
func (s *Store) build(ctx context.Context, m manifest, report banger.ProgressFunc, fill func(dir string, m *manifest) error) (banger.Kernel, error) {
	name := s.digest(m.DebSHA256)
	lock, err := s.lock(ctx, name, report)
	if err != nil {
		return banger.Kernel{}, err
	}
	defer func() { _ = lock.Close() }()
	if err := s.sweep(ctx, name); err != nil {
		return banger.Kernel{}, err
	}
	if k, _, err := s.open(name); err == nil {
		return k, nil
	}
	tmp, err := os.MkdirTemp(s.dir, tmpPrefix+name+"-")
	if err != nil {
		return banger.Kernel{}, err
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	err = s.Steps.RunUnnamed(ctx, name,
		steps.Step{Name: "kernel.write", Do: func(context.Context) error { return fill(tmp, &m) }},
		steps.Step{Name: "kernel.publish", Do: func(context.Context) error {
			m.Format, m.Digest, m.AgentSHA256, m.Created = format, "sha256:"+name, s.agent.sum(), time.Now().UTC()
			return s.commit(tmp, name, m)
		}},
	)
	if err != nil {
		return banger.Kernel{}, err
	}
	k, _, err := s.open(name)
	s.log.Info("kernel built", "digest", k.Digest, "release", k.Release)
	return k, err
}

// commit writes the manifest and gives the directory its name, in place of a
// damaged one.
func (s *Store) commit(tmp, name string, m manifest) error {
	m.Sizes = map[string]int64{}
	entries, err := os.ReadDir(tmp)
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return err
		}
		m.Sizes[e.Name()] = info.Size()
	}
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(tmp, fileManifest), func(w io.Writer) error {
		_, err := io.Copy(w, io.MultiReader(bytes.NewReader(data), strings.NewReader("\n")))
		return err
	}); err != nil {
		return err
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	if err := syncDir(tmp); err != nil {
		return err
	}
	dir := filepath.Join(s.dir, name)
	if _, err := os.Stat(dir); err == nil {
		// VMs that run from the damaged one keep their open files.
		if err := os.Rename(dir, tmp+"-damaged"); err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(tmp + "-damaged") }()
	}
	if err := os.Rename(tmp, dir); err != nil {
		return err
	}
	return syncDir(s.dir)
}
