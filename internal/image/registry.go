package image

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"banger.dev/banger"
	"banger.dev/banger/internal/image/layer"
	"banger.dev/banger/internal/image/oci"
	"banger.dev/banger/internal/paths"
)

// Settings are what a user can say of images.
type Settings struct {
	Registries oci.Settings
	Limits     layer.Limits
}

// settings are those of this moment.
func (s *Store) settings() Settings {
	if s.Settings == nil {
		return Settings{Limits: layer.DefaultLimits()}
	}
	return s.Settings()
}

// Lookup gives the image that ref names if it is here, and if ref is one of a
// registry's, the hosts that Pull would ask. It asks nobody. It is KindNotFound
// when there is neither.
func (s *Store) Lookup(ref string) (image *banger.Image, hosts []string, err error) {
	img, have, err := s.Have(context.Background(), ref)
	if err != nil {
		return nil, nil, err
	}
	if have {
		image = &img
	}
	if _, ok := s.catalog[ref]; ok || image != nil && img.Name != ref {
		return image, nil, nil
	}
	parsed, err := s.settings().Registries.Parse(ref)
	switch {
	case err != nil && image == nil:
		return nil, nil, s.unknown(ref, err)
	case err != nil:
		return image, nil, nil
	}
	return image, s.settings().Registries.Hosts(parsed), nil
}

// unknown says what has been tried in vain.
func (s *Store) unknown(ref string, why error) error {
	names := slices.Sorted(maps.Keys(s.catalog))
	return banger.Errorf(banger.KindNotFound, "no image %q: not a local name or digest, not in the catalog (%s), and not in a registry: %s",
		ref, strings.Join(names, ", "), why).WithNext("the same with --image %s", banger.DefaultImage)
}

// referenceKey is the name of the file that says what a reference was when it
// was pulled.
func referenceKey(ref name.Reference) string { return referencePrefix + paths.CacheKey(ref.Name()) }

const referencePrefix = "ref@"

// Pull gets the newest image that ref names: what a catalog entry makes now, or
// what a registry has. changed tells whether that is another than was here.
func (s *Store) Pull(ctx context.Context, ref string, credentials map[string]oci.Credential, report banger.ProgressFunc) (img banger.Image, changed bool, err error) {
	before, _, _ := s.Have(ctx, ref)
	if b, ok := s.catalog[ref]; ok {
		img, err = s.pull(ctx, ref, b, report)
	} else {
		img, err = s.pullReference(ctx, ref, credentials, report)
	}
	return img, before.Digest != img.Digest, err
}

func (s *Store) pullReference(ctx context.Context, ref string, credentials map[string]oci.Credential, report banger.ProgressFunc) (banger.Image, error) {
	settings := s.settings()
	parsed, err := settings.Registries.Parse(ref)
	if err != nil {
		return banger.Image{}, s.unknown(ref, err)
	}
	report.Report(banger.Progress{Stage: stage, Message: "ask " + strings.Join(settings.Registries.Hosts(parsed), ", ")})
	client := &oci.Client{Settings: settings.Registries, Layers: s.layersDir(), Credentials: credentials, Report: report, Stall: s.Stall}
	found, err := client.Find(ctx, parsed)
	if banger.KindOf(err) == banger.KindNotFound {
		return banger.Image{}, s.unknown(ref, err)
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
	return img, s.setRef(referenceKey(parsed), reference{Digest: img.Digest, Name: ref})
}

func (s *Store) layersDir() string { return filepath.Join(s.layout.Images(), "layers") }

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
	err = client.Fetch(ctx, found, func(name string, do func() error) error {
		unlock, err := lock(ctx, s.lockFile(name), func() {})
		if err != nil {
			return err
		}
		defer unlock()
		return do()
	})
	if err != nil {
		return banger.Image{}, err
	}
	var digests []string
	for _, l := range found.Layers {
		digests = append(digests, l.Digest.String())
	}
	return work.addLayers(ctx, found, client.Stored(found), digests)
}
