package kernel

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/apt"
	"banger.dev/banger/internal/kernel/depmod"
)

// The stages that progress is reported under.
const (
	stageKernel      = "kernel"
	stageUnpack      = "unpack"
	stageInitramfs   = "initramfs"
	stageModulesDisk = "modules disk"
)

// pull resolves, downloads and builds the newest kernel. The ref's lock is held.
func (s *Store) pull(ctx context.Context, report banger.ProgressFunc) (banger.Kernel, error) {
	aptReport := func(p banger.Progress) {
		p.Stage = stageKernel
		report.Report(p)
	}
	pkg, err := s.resolve(ctx, aptReport)
	if err != nil {
		return banger.Kernel{}, err
	}
	r := ref{Package: pkg.Name, Version: pkg.Version, DebSHA256: pkg.SHA256, Resolved: time.Now().UTC().Truncate(time.Second)}
	k, _, err := s.open(s.digest(pkg.SHA256))
	if err != nil {
		deb, err := s.apt.Download(ctx, pkg, aptReport)
		if err != nil {
			return banger.Kernel{}, err
		}
		if k, err = s.buildFromDeb(ctx, deb, r, report); err != nil {
			return banger.Kernel{}, fmt.Errorf("build kernel %s: %w", strings.TrimPrefix(pkg.Name, "linux-image-"), err)
		}
	}
	return k, s.writeRef(r)
}

// resolve finds the package that the meta package stands for.
func (s *Store) resolve(ctx context.Context, report banger.ProgressFunc) (apt.Package, error) {
	if err := s.apt.Update(ctx, report); err != nil {
		return apt.Package{}, err
	}
	meta, err := s.apt.Latest(ctx, metaPackage)
	if err != nil {
		return apt.Package{}, err
	}
	for _, name := range meta.Depends {
		if strings.HasPrefix(name, "linux-image-") {
			return s.apt.Latest(ctx, name)
		}
	}
	return apt.Package{}, banger.Errorf(banger.KindUnavailable, "the package %s of %s depends on no kernel", metaPackage, s.apt.Suite())
}

// buildFromDeb makes a kernel of a package.
func (s *Store) buildFromDeb(ctx context.Context, deb string, r ref, report banger.ProgressFunc) (banger.Kernel, error) {
	m := manifest{Source: sourceOf(s.apt.Suite(), r), Package: r.Package, Version: r.Version, DebSHA256: r.DebSHA256}
	return s.build(ctx, m, report, func(dir string, m *manifest) error {
		work := filepath.Join(dir, "work")
		if err := os.Mkdir(work, 0o755); err != nil {
			return err
		}
		report.Report(banger.Progress{Stage: stageUnpack, Message: "unpack " + r.Package})
		var err error
		if m.Release, err = unpackDeb(ctx, deb, work); err != nil {
			return err
		}
		if err := unpackImage(work, dir); err != nil {
			return err
		}
		modules := filepath.Join(work, unpackedModules)
		if err := depmod.Generate(ctx, filepath.Join(modules, m.Release), unpackModule); err != nil {
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
	})
}

// unpackImage makes vmlinux and config in dir of what was unpacked in work.
func unpackImage(work, dir string) error {
	image, err := os.ReadFile(filepath.Join(work, unpackedImage))
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(dir, fileVMLinux), func(w io.Writer) error { return ExtractVMLinux(w, image) }); err != nil {
		return err
	}
	config, err := os.ReadFile(filepath.Join(work, unpackedConfig))
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	return writeBytes(filepath.Join(dir, fileConfig), config)
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
	return writeFile(to, func(w io.Writer) error {
		_, err := io.Copy(w, f)
		return err
	})
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
	if err := fill(tmp, &m); err != nil {
		return banger.Kernel{}, err
	}
	if err := ctx.Err(); err != nil {
		return banger.Kernel{}, err
	}
	m.Format, m.Digest, m.AgentSHA256, m.Created = format, "sha256:"+name, s.agent.sum(), time.Now().UTC()
	if err := s.commit(tmp, name, m); err != nil {
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
