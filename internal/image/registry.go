package image

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"banger.dev/banger"
	"banger.dev/banger/internal/image/oci"
	"banger.dev/banger/internal/paths"
	"banger.dev/banger/internal/steps"
)

// Lookup gives the image that ref names if it is here, and if ref is one of a
// registry's, the hosts that Pull would ask. It asks nobody. It is KindNotFound
// when there is neither.
func (s *Store) Lookup(ref string) (image *banger.Image, hosts []string, err error) {
	if img, own, err := s.own(ref); own {
		return &img, nil, nil
	} else if err != nil {
		return nil, nil, err
	}
	img, have, err := s.pulled(ref)
	if err != nil {
		return nil, nil, err
	}
	if have {
		image = &img
	}
	settings := s.settings()
	entry := settings.entry(ref)
	if entry.Builder != nil {
		return image, nil, nil
	}
	parsed, err := entry.parse(settings)
	switch {
	case err != nil && image == nil:
		return nil, nil, s.unknown(ref, err)
	case err != nil:
		return image, nil, nil
	}
	return image, settings.Registries.Hosts(parsed), nil
}

// unknown says what has been tried in vain.
func (s *Store) unknown(ref string, why error) error {
	names := slices.Sorted(maps.Keys(s.settings().Catalog))
	return banger.Errorf(banger.KindNotFound, "no image %q: not a local name or digest, not in the catalog (%s), and not in a registry: %s",
		ref, strings.Join(names, ", "), why).WithNext("%s", cmp.Or(banger.NextOf(why), "banger image list --catalog"))
}

// referenceKey is the name of the file that says what a reference was when it
// was pulled.
func referenceKey(ref name.Reference) string { return referencePrefix + paths.CacheKey(ref.Name()) }

const referencePrefix = "ref@"

// Pull gets the newest image that ref names: what a catalog entry makes now, or
// what a registry has. changed tells whether that is another than was here.
func (s *Store) Pull(ctx context.Context, ref string, credentials map[string]oci.Credential, report banger.ProgressFunc) (img banger.Image, changed bool, err error) {
	before, _, _ := s.Have(ctx, ref)
	img, err = s.pull(ctx, ref, credentials, report)
	return img, before.Digest != img.Digest, err
}

func (s *Store) pull(ctx context.Context, ref string, credentials map[string]oci.Credential, report banger.ProgressFunc) (banger.Image, error) {
	entry := s.settings().entry(ref)
	get := func() (banger.Image, error) { return s.pullReference(ctx, entry, credentials, report) }
	if entry.Builder != nil {
		get = func() (banger.Image, error) { return s.build(ctx, entry, report) }
	}
	img, err := get()
	img.Kernel = entry.Kernel
	return img, err
}

func (s *Store) pullReference(ctx context.Context, entry Entry, credentials map[string]oci.Credential, report banger.ProgressFunc) (banger.Image, error) {
	settings := s.settings()
	ref, _ := entry.Reference()
	parsed, err := entry.parse(settings)
	if err != nil {
		return banger.Image{}, s.unknown(entry.Name, err)
	}
	report.Report(banger.Progress{Stage: stage, Message: "ask " + strings.Join(settings.Registries.Hosts(parsed), ", ")})
	client := &oci.Client{Settings: settings.Registries, Layers: s.layersDir(), Credentials: credentials, Report: report, Stall: s.Stall}
	found, err := client.Find(ctx, parsed)
	if banger.KindOf(err) == banger.KindNotFound {
		return banger.Image{}, s.unknown(entry.Name, err)
	}
	if err != nil {
		return banger.Image{}, err
	}
	img, err := s.load(found.Digest)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errDamaged) {
		img, err = s.fetch(ctx, client, found, ref, report)
	}
	if err != nil {
		return banger.Image{}, err
	}
	img.Name = ref
	return img, s.giveName(ctx, referenceKey(parsed), reference{Digest: img.Digest, Name: ref})
}

// fetch brings the layers of an image and makes it.
func (s *Store) fetch(ctx context.Context, client *oci.Client, found *oci.Image, ref string, report banger.ProgressFunc) (banger.Image, error) {
	work, err := s.begin(ctx, paths.DigestDir(found.Digest), ref, report)
	if err != nil {
		return banger.Image{}, err
	}
	defer work.end()
	if img, err := s.load(found.Digest); err == nil {
		return img, nil // whoever held the lock made it
	}
	unshare, err := share(ctx, s.layersLock())
	if err != nil {
		return banger.Image{}, err
	}
	defer unshare()
	err = work.run(ctx, steps.Step{Name: "image.layers", Do: func(ctx context.Context) error {
		return client.Fetch(ctx, found, s.whileLocked(ctx))
	}})
	if err != nil {
		return banger.Image{}, err
	}
	var digests []string
	for _, l := range found.Layers {
		digests = append(digests, l.Digest.String())
	}
	return work.addLayers(ctx, found, client.Stored(found), digests)
}

// whileLocked does something while nobody else does what has the same name.
func (s *Store) whileLocked(ctx context.Context) func(name string, do func() error) error {
	return func(name string, do func() error) error {
		unlock, err := lock(ctx, s.lockFile(name), func() {})
		if err != nil {
			return err
		}
		defer unlock()
		return do()
	}
}
