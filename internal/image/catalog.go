package image

import (
	"context"
	"maps"
	"slices"

	"github.com/google/go-containerregistry/pkg/name"

	"banger.dev/banger"
	"banger.dev/banger/internal/apt"
	"banger.dev/banger/internal/image/debian"
)

// Entry is an image of the catalog, and what makes it if no registry has it.
type Entry struct {
	banger.CatalogEntry
	Builder Builder
}

// Catalog is what can be had by name on this host: what everybody has, and more,
// of which each takes the place of one with its name. sources says where Debian's
// archive is.
func Catalog(sources func() apt.Sources, more []banger.CatalogEntry) map[string]Entry {
	catalog := map[string]Entry{}
	for _, e := range slices.Concat(builtIn(), more) {
		entry := Entry{CatalogEntry: e}
		if suite, ok := e.Suite(); ok {
			entry.Builder = debian.Builder{Suite: suite, More: e.Packages, Sources: sources}
		}
		catalog[e.Name] = entry
	}
	return catalog
}

func builtIn() []banger.CatalogEntry {
	return []banger.CatalogEntry{
		{
			Name: banger.DefaultImage, Source: "debian:" + debian.Stable,
			Description: "a small Debian with systemd, git and rsync; what VMs have that name no other",
		},
		{
			Name: "dev", Source: "debian:" + debian.Stable,
			Description: "the same with tmux, build tools and docker",
			Packages: []string{
				"build-essential", "pkg-config", "python3", "curl", "jq", "unzip", "xz-utils", "patch", "file", "tmux", "vim-tiny",
				"docker.io", "docker-cli", "iptables",
			},
		},
	}
}

// Catalog is every entry by name, and which images are here.
func (s *Store) Catalog(ctx context.Context) ([]banger.CatalogImage, error) {
	list := []banger.CatalogImage{}
	catalog := s.settings().Catalog
	for _, name := range slices.Sorted(maps.Keys(catalog)) {
		entry := banger.CatalogImage{CatalogEntry: catalog[name].CatalogEntry}
		img, ok, err := s.Have(ctx, name)
		if err != nil {
			return nil, err
		}
		if ok {
			entry.Image = &img
		}
		list = append(list, entry)
	}
	return list, nil
}

// entry is what the catalog says of ref; what is not in it is one of a registry's.
func (s Settings) entry(ref string) Entry {
	if entry, ok := s.Catalog[ref]; ok {
		return entry
	}
	return Entry{CatalogEntry: banger.CatalogEntry{Name: ref, Source: "oci:" + ref}}
}

// parse is the entry's reference.
func (e Entry) parse(s Settings) (name.Reference, error) {
	ref, _ := e.Reference()
	return s.Registries.Parse(ref)
}

// key is the name of the file that says what an entry or a reference was when it
// was made or pulled; ok is false if ref can be neither.
func (s Settings) key(ref string) (key string, ok bool) {
	entry := s.entry(ref)
	if entry.Builder != nil {
		return catalogKey(entry), true
	}
	parsed, err := entry.parse(s)
	if err != nil {
		return "", false
	}
	return referenceKey(parsed), true
}

// catalogKey is the name of the reference to what the entry's builder makes now.
func catalogKey(e Entry) string { return e.Name + "@" + e.Builder.Key() }
