// Package kernel turns kernel packages into what a VMM boots: an uncompressed
// vmlinux, an initramfs with the agent and the modules it needs, and a read-only
// modules disk. They are kept in an immutable store named by digest, which
// several homes and processes may share. It does not fetch packages (see apt)
// and does not choose a VM's kernel command line.
package kernel

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"banger.dev/banger"
	"banger.dev/banger/internal/du"
	"banger.dev/banger/internal/hold"
	"banger.dev/banger/internal/paths"
	"banger.dev/banger/internal/steps"
)

// format is the version of what the builder makes; another one is another kernel.
const format = 2

// Store is the kernels in a cache directory. Its methods may be called from any
// goroutine; several processes may use one directory.
type Store struct {
	// Archives gives that of a release other than the default one; nil: there is none.
	Archives func(Release) Packages
	Steps    steps.Runner // without faults but in tests

	dir   string
	apt   Packages // of the default release
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

// archives is where the packages of a release come from.
func (s *Store) archives(r Release) (Packages, error) {
	switch {
	case r == DefaultRelease():
		return s.apt, nil
	case s.Archives == nil:
		return nil, banger.Errorf(banger.KindUnavailable, "no archive of %s %s is known here", r.Distribution, r.Suite)
	}
	return s.Archives(r), nil
}

// Default is the kernel for a VM that names none: the newest of the default
// release when it was last pulled. See ofRelease.
func (s *Store) Default(ctx context.Context, report banger.ProgressFunc) (banger.Kernel, error) {
	if err := s.agent.check(); err != nil {
		return banger.Kernel{}, err
	}
	return s.ofRelease(ctx, DefaultRelease(), report)
}

func (s *Store) defaultName() string { return DefaultRelease().name() }

// Have is the kernel that Default gives if it is here; ok is false if Default
// would have to make it.
func (s *Store) Have(context.Context) (k banger.Kernel, ok bool, err error) {
	if err := s.agent.check(); err != nil {
		return banger.Kernel{}, false, err
	}
	k, _, err = s.named(s.defaultName())
	return k, err == nil, nil
}

// Resolve is the kernel for a VM that is to have ref: "" for the default one, a
// user's name, a release, which is pulled unless it is here, or what Get takes.
// What has a name comes with this program's agent.
func (s *Store) Resolve(ctx context.Context, ref string, report banger.ProgressFunc) (banger.Kernel, error) {
	if err := s.agent.check(); err != nil {
		return banger.Kernel{}, err
	}
	if ref == "" {
		return s.Default(ctx, report)
	}
	if r, ok := parseRelease(ref); ok {
		return s.ofRelease(ctx, r, report)
	}
	if banger.IsLocalName(ref) {
		if _, err := s.readRef(ref); err == nil {
			return s.ofName(ctx, ref, report)
		}
	}
	return s.Get(ctx, ref)
}

// ofName is the kernel that a user has given a name.
func (s *Store) ofName(ctx context.Context, name string, report banger.ProgressFunc) (banger.Kernel, error) {
	k, r, err := s.named(name)
	if err == nil {
		return k, nil
	}
	if old := s.siblings(r.DebSHA256); len(old) > 0 {
		return s.fromSibling(ctx, name, old[0], report)
	}
	return banger.Kernel{}, banger.Errorf(banger.KindNotFound, "the files of the kernel %s are gone from %s", name, s.dir).
		WithNext("banger kernel import --name %s FILE", name)
}

var hexPrefixRE = regexp.MustCompile(`^[0-9a-f]{4,64}$`)

// Get finds a kernel by digest ("sha256:…" or bare), by a unique prefix of its
// digest of 4 or more digits, by name, or by release; of several kernels of one
// release it is the newest. One that is found by its name alone says a name. It
// never pulls: what is not in the store is KindNotFound.
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
	name := ref
	if r, ok := parseRelease(ref); ok {
		name = r.name()
	}
	if i := slices.IndexFunc(kernels, func(k banger.Kernel) bool { return k.Name != "" && k.Name == name }); i >= 0 {
		return kernels[i], nil
	}
	if i := slices.IndexFunc(kernels, func(k banger.Kernel) bool { return k.Release == ref }); i >= 0 {
		return nameless(kernels[i]), nil // the newest of them
	}
	prefix := paths.DigestDir(ref)
	if !hexPrefixRE.MatchString(prefix) {
		return banger.Kernel{}, s.notFound(ref, "no kernel in "+s.dir+" has this name or release, and it is no digest")
	}
	var found []banger.Kernel
	for _, k := range kernels {
		if strings.HasPrefix(paths.DigestDir(k.Digest), prefix) && !slices.ContainsFunc(found, func(f banger.Kernel) bool { return f.Digest == k.Digest }) {
			found = append(found, k)
		}
	}
	switch len(found) {
	case 0:
		return banger.Kernel{}, s.notFound(ref, "no kernel in "+s.dir+" has this name or release, or a digest that begins so")
	case 1:
		return nameless(found[0]), nil
	}
	return banger.Kernel{}, banger.Errorf(banger.KindInvalid, "kernel %s: %d kernels have a digest that begins so; use more digits", ref, len(found)).
		WithNext("banger kernel list")
}

func nameless(k banger.Kernel) banger.Kernel {
	k.Name, k.Default = "", false
	return k
}

func (s *Store) notFound(ref, tried string) error {
	err := banger.Errorf(banger.KindNotFound, "there is no kernel %q: %s", ref, tried)
	if _, ok := parseRelease(ref); ok {
		return err.WithNext("banger kernel pull %s", ref)
	}
	return err.WithNext("banger kernel list")
}

// List is every kernel in the store, the newest first: one for each name, and one
// for each without any. What is not whole is left out.
func (s *Store) List(ctx context.Context) ([]banger.Kernel, error) {
	digests, err := s.digests()
	if err != nil {
		return nil, err
	}
	wanted, err := s.wanted()
	if err != nil {
		return nil, err
	}
	kernels := []banger.Kernel{}
	for _, hex := range digests {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		k, _, err := s.open(hex)
		if err != nil {
			s.log.Warn("a kernel in the cache is damaged", "dir", filepath.Join(s.dir, hex), "error", err)
			continue
		}
		if len(wanted[hex]) == 0 {
			kernels = append(kernels, k)
		}
		for _, name := range wanted[hex] {
			k.Name, k.Default = name, name == s.defaultName()
			kernels = append(kernels, k)
		}
	}
	slices.SortFunc(kernels, func(a, b banger.Kernel) int {
		if c := b.Created.Compare(a.Created); c != 0 {
			return c
		}
		return cmp.Or(strings.Compare(a.Digest, b.Digest), strings.Compare(a.Name, b.Name))
	})
	return kernels, nil
}

// Size is what the files of one of List take on the disk. Those that it shares
// with others count for each.
func (s *Store) Size(k banger.Kernel) (banger.Bytes, error) {
	return new(du.Counter).Tree(filepath.Dir(k.VMLinux))
}

// digest names the kernel made of a source, this program's agent and builder.
func (s *Store) digest(source string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "banger kernel %d\ndeb %s\nagent %s\n", format, source, s.agent.sum()))
	return hex.EncodeToString(sum[:])
}
