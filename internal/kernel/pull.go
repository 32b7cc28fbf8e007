package kernel

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strings"

	"banger.dev/banger"
	"banger.dev/banger/internal/apt"
	"banger.dev/banger/internal/until"
)

// Packages is where kernel packages come from; *apt.Root is one.
type Packages interface {
	// Suite names the release that packages are looked up in.
	Suite() string
	// Update fetches the package lists.
	Update(ctx context.Context, report banger.ProgressFunc) error
	// Latest is the newest version of a package in the lists.
	Latest(ctx context.Context, name string) (apt.Package, error)
	// Download is the path of a package's verified .deb.
	Download(ctx context.Context, p apt.Package, report banger.ProgressFunc) (string, error)
}

// Pull asks an archive for the newest kernel of a release, such as debian or
// ubuntu:noble, and tells whether it is another than was here.
func (s *Store) Pull(ctx context.Context, release string, report banger.ProgressFunc) (k banger.Kernel, changed bool, err error) {
	r, ok := parseRelease(release)
	if !ok {
		return banger.Kernel{}, false, unknownRelease(release)
	}
	if err := s.agent.check(); err != nil {
		return banger.Kernel{}, false, err
	}
	lock, err := s.lock(ctx, r.name(), report)
	if err != nil {
		return banger.Kernel{}, false, err
	}
	defer func() { _ = lock.Close() }()
	before, _, _ := s.named(r.name())
	k, err = s.pull(ctx, r, report)
	return k, k.Digest != before.Digest, err
}

// ofRelease is the kernel of a release that was the newest when it was last
// pulled, with this program's agent. If it is in the cache this takes a few file
// reads. A new agent is put beside the cached files without any network;
// otherwise it is pulled.
func (s *Store) ofRelease(ctx context.Context, r Release, report banger.ProgressFunc) (banger.Kernel, error) {
	if k, _, err := s.named(r.name()); err == nil {
		return k, nil
	}
	lock, err := s.lock(ctx, r.name(), report)
	if err != nil {
		return banger.Kernel{}, err
	}
	defer func() { _ = lock.Close() }()
	k, ref, err := s.named(r.name())
	if err == nil {
		return k, nil // somebody else has just pulled it
	}
	if old := s.siblings(ref.DebSHA256); len(old) > 0 {
		return s.fromSibling(ctx, r.name(), old[0], report)
	}
	return s.pull(ctx, r, report)
}

// pull resolves, downloads and builds the newest kernel. The name's lock is held.
func (s *Store) pull(ctx context.Context, r Release, report banger.ProgressFunc) (banger.Kernel, error) {
	aptReport := func(p banger.Progress) {
		p.Stage = stageKernel
		report.Report(p)
	}
	archive, err := s.archives(r)
	if err != nil {
		return banger.Kernel{}, err
	}
	packages, err := resolve(ctx, archive, r, aptReport)
	if err != nil {
		return banger.Kernel{}, err
	}
	pkg := packages[0]
	found := ref{Package: pkg.Name, Version: pkg.Version, DebSHA256: sumOf(packages)}
	source := strings.Join([]string{r.Distribution, r.Suite, pkg.Name, pkg.Version}, " ")
	_, err = s.make(ctx, manifest{Source: source, Package: pkg.Name, Version: pkg.Version, DebSHA256: found.DebSHA256}, report, func(u *unpacker) error {
		for _, p := range packages {
			deb, err := archive.Download(ctx, p, aptReport)
			if err != nil {
				return err
			}
			report.Report(banger.Progress{Stage: stageUnpack, Message: "unpack " + p.Name})
			if err := u.deb(ctx, deb); err != nil {
				return fmt.Errorf("unpack %s: %w", p.Name, err)
			}
		}
		return nil
	})
	if err != nil {
		return banger.Kernel{}, err
	}
	return s.giveName(ctx, r.name(), found)
}

// resolve finds the packages that make up the release's newest kernel, that of
// the kernel first: Ubuntu has the modules in one of their own.
func resolve(ctx context.Context, archive Packages, r Release, report banger.ProgressFunc) ([]apt.Package, error) {
	if err := archive.Update(ctx, report); err != nil {
		return nil, err
	}
	meta, err := archive.Latest(ctx, r.meta())
	if err != nil {
		return nil, err
	}
	image, ok := firstWith(meta.Depends, "linux-image-")
	if !ok {
		return nil, banger.Errorf(banger.KindUnavailable, "the package %s of %s depends on no kernel", r.meta(), r.Suite)
	}
	kernel, err := archive.Latest(ctx, image)
	if err != nil {
		return nil, err
	}
	modules, ok := firstWith(kernel.Depends, "linux-modules-")
	if !ok {
		return []apt.Package{kernel}, nil
	}
	with, err := archive.Latest(ctx, modules)
	return []apt.Package{kernel, with}, err
}

func firstWith(names []string, prefix string) (string, bool) {
	for _, name := range names {
		if strings.HasPrefix(name, prefix) {
			return name, true
		}
	}
	return "", false
}

// sumOf names what a kernel is made of: a package, or several.
func sumOf(packages []apt.Package) string {
	if len(packages) == 1 {
		return packages[0].SHA256
	}
	h := sha256.New()
	for _, p := range packages {
		_, _ = fmt.Fprintln(h, p.SHA256) // to memory
	}
	return hex.EncodeToString(h.Sum(nil))
}

// deb takes what banger uses out of a package.
func (u *unpacker) deb(ctx context.Context, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	return walkDeb(until.Done(ctx, f), u.visit)
}
