// Package kernel turns kernel packages into what a VMM boots: an uncompressed
// vmlinux, an initramfs with the agent and the modules it needs, and a read-only
// modules disk. They are kept in an immutable store named by digest, which
// several homes and processes may share. It does not fetch packages (see apt)
// and does not choose a VM's kernel command line.
package kernel

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"banger.dev/banger"
	"banger.dev/banger/internal/apt"
	"banger.dev/banger/internal/hold"
	"banger.dev/banger/internal/paths"
)

// format is the version of what the builder makes; another one is another kernel.
const format = 1

// metaPackage depends on the newest kernel of the suite that is made for VMs.
const metaPackage = "linux-image-cloud-amd64"

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

// Store is the kernels in a cache directory. Its methods may be called from any
// goroutine; several processes may use one directory.
type Store struct {
	dir   string
	apt   Packages
	agent Agent
	log   *slog.Logger
	holds *hold.Table // which VMs need which kernel
}

// New names the store in layout's cache. It does no I/O.
func New(layout paths.Layout, packages Packages, agent Agent, log *slog.Logger) *Store {
	return &Store{
		dir: layout.Kernels(), apt: packages, agent: agent, log: log,
		holds: &hold.Table{Dir: filepath.Join(layout.Kernels(), "users")},
	}
}

// Default is the kernel for a VM that names none: the newest cloud kernel of the
// suite when it was last pulled, with this program's agent. If it is in the
// cache this takes a few file reads. A new agent is put beside the cached files
// without any network; otherwise the package is pulled with progress.
func (s *Store) Default(ctx context.Context, report banger.ProgressFunc) (banger.Kernel, error) {
	if err := s.agent.check(); err != nil {
		return banger.Kernel{}, err
	}
	if k, err := s.cached(); err == nil {
		return k, nil
	}
	lock, err := s.lock(ctx, s.refName(), report)
	if err != nil {
		return banger.Kernel{}, err
	}
	defer func() { _ = lock.Close() }()
	if k, err := s.cached(); err == nil {
		return k, nil // somebody else has just pulled it
	}
	if ref, err := s.readRef(); err == nil {
		if sibling, ok := s.sibling(ref.DebSHA256); ok {
			return s.buildFromSibling(ctx, sibling, report)
		}
	}
	return s.pull(ctx, report)
}

// Resolve is the kernel for a VM that is to have ref, "" for the default one.
func (s *Store) Resolve(ctx context.Context, ref string, report banger.ProgressFunc) (banger.Kernel, error) {
	if ref == "" {
		return s.Default(ctx, report)
	}
	return s.Get(ctx, ref)
}

// Have is the kernel that Default gives if it is here; ok is false if Default
// would have to make it.
func (s *Store) Have(context.Context) (k banger.Kernel, ok bool, err error) {
	if err := s.agent.check(); err != nil {
		return banger.Kernel{}, false, err
	}
	k, err = s.cached()
	return k, err == nil, nil
}

// Pull asks the archive for the newest kernel and makes it the default.
func (s *Store) Pull(ctx context.Context, report banger.ProgressFunc) (banger.Kernel, error) {
	if err := s.agent.check(); err != nil {
		return banger.Kernel{}, err
	}
	lock, err := s.lock(ctx, s.refName(), report)
	if err != nil {
		return banger.Kernel{}, err
	}
	defer func() { _ = lock.Close() }()
	return s.pull(ctx, report)
}

var hexPrefixRE = regexp.MustCompile(`^[0-9a-f]{4,64}$`)

// Get finds a kernel by digest ("sha256:…" or bare), by a unique prefix of its
// digest of 4 or more digits, or by release; of several kernels of one release
// it is the newest. It never pulls: what is not in the store is KindNotFound.
func (s *Store) Get(ctx context.Context, ref string) (banger.Kernel, error) {
	if name := paths.DigestDir(ref); len(name) == 64 && hexPrefixRE.MatchString(name) {
		k, _, err := s.open(name)
		if err == nil {
			return k, nil
		}
		return banger.Kernel{}, s.notFound(ref, "no kernel in "+s.dir+" has this digest")
	}
	kernels, err := s.List(ctx)
	if err != nil {
		return banger.Kernel{}, err
	}
	for _, k := range kernels { // newest first
		if k.Release == ref {
			return k, nil
		}
	}
	prefix := paths.DigestDir(ref)
	if !hexPrefixRE.MatchString(prefix) {
		return banger.Kernel{}, s.notFound(ref, "no kernel in "+s.dir+" is of this release, and it is no digest")
	}
	var found []banger.Kernel
	for _, k := range kernels {
		if strings.HasPrefix(paths.DigestDir(k.Digest), prefix) {
			found = append(found, k)
		}
	}
	switch len(found) {
	case 0:
		return banger.Kernel{}, s.notFound(ref, "no kernel in "+s.dir+" has this release, or a digest that begins so")
	case 1:
		return found[0], nil
	}
	return banger.Kernel{}, banger.Errorf(banger.KindInvalid, "kernel %s: %d kernels have a digest that begins so; use more digits", ref, len(found)).
		WithNext("ls %s", s.dir)
}

func (s *Store) notFound(ref, tried string) error {
	return banger.Errorf(banger.KindNotFound, "there is no kernel %q: %s", ref, tried).WithNext("ls %s", s.dir)
}

// List is every kernel in the store, the newest first. What is not whole is
// left out.
func (s *Store) List(ctx context.Context) ([]banger.Kernel, error) {
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return []banger.Kernel{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list kernels: %w", err)
	}
	kernels := []banger.Kernel{}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if len(e.Name()) != 64 || !hexPrefixRE.MatchString(e.Name()) {
			continue
		}
		k, _, err := s.open(e.Name())
		if err != nil {
			s.log.Warn("a kernel in the cache is damaged", "dir", filepath.Join(s.dir, e.Name()), "error", err)
			continue
		}
		kernels = append(kernels, k)
	}
	slices.SortFunc(kernels, func(a, b banger.Kernel) int {
		if c := b.Created.Compare(a.Created); c != 0 {
			return c
		}
		return strings.Compare(a.Digest, b.Digest)
	})
	return kernels, nil
}

// cached is the default kernel if it is in the cache.
func (s *Store) cached() (banger.Kernel, error) {
	ref, err := s.readRef()
	if err != nil {
		return banger.Kernel{}, err
	}
	k, _, err := s.open(s.digest(ref.DebSHA256))
	return k, err
}

// digest names the kernel made of a package, this program's agent and builder.
func (s *Store) digest(debSHA256 string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "banger kernel %d\ndeb %s\nagent %s\n", format, debSHA256, s.agent.sum()))
	return hex.EncodeToString(sum[:])
}
