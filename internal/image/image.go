// Package image turns a reference into a base image in the cache: a root file
// system that is named by the digest of its contents and never changes. It
// knows where images are kept and who makes them; it starts no VM, and it does
// not decide which VM uses which image.
//
// Under the cache's images/:
//
//	<64 hex digits>/rootfs.ext4, manifest.json   one image
//	layers/<64 hex digits>                       a layer as a registry has it; .part: not whole
//	refs/<name>.json                             the digest of a local name
//	refs/<name>@<key>.json                       the digest of a catalog entry as it is now
//	refs/ref@<key>.json                          the digest of a registry's reference when it was pulled
//	users/<64 hex digits>/                       a link for each VM that needs that image
//	locks/<key>                                  held by whoever makes that image
//	tmp/<key>/                                   its half-made files
//
// Several processes may share a cache: everything is made under a lock in tmp
// and renamed, and nothing is written to afterwards.
package image

import (
	"context"
	"io"
	"regexp"
	"sync"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/apt"
	"banger.dev/banger/internal/hold"
	"banger.dev/banger/internal/image/debian"
	"banger.dev/banger/internal/paths"
)

// Builder makes the image of a catalog entry.
type Builder interface {
	// Key names what Build would make at this moment; a new key is a new image.
	Key() string
	// Source says for people what it makes.
	Source() string
	// Build writes the root as a tar to w. tmp is an empty directory for its
	// own files, removed afterwards.
	Build(ctx context.Context, tmp string, w io.Writer, report banger.ProgressFunc) error
}

// Catalog is what can be pulled by name on this host.
func Catalog() map[string]Builder {
	return map[string]Builder{
		"debian": debian.Builder{Sources: sync.OnceValue(apt.DetectSources)},
	}
}

// Store is the images in one cache. It is safe for concurrent use.
type Store struct {
	// Settings are asked for at each use; nil: no registry is asked.
	Settings func() Settings
	// Stall is how long a registry may be silent; 0 is oci.DefaultStall.
	Stall time.Duration

	layout    paths.Layout
	catalog   map[string]Builder
	images    *hold.Table // which VMs need which image
	templates *hold.Table // and which template
}

// New gives the images under layout.Cache, and those that catalog can make.
func New(layout paths.Layout, catalog map[string]Builder) *Store {
	return &Store{layout: layout, catalog: catalog, images: newHolds(layout.Images()), templates: newHolds(layout.Templates())}
}

// Config is what an image says beside its files.
type Config struct {
	Source       string   `json:"source,omitempty"`       // where it came from, for people
	Architecture string   `json:"architecture,omitempty"` // "" is this host's
	Env          []string `json:"env,omitempty"`
	Workdir      string   `json:"workdir,omitempty"`
	User         string   `json:"user,omitempty"`
	Entrypoint   []string `json:"entrypoint,omitempty"`
	Cmd          []string `json:"cmd,omitempty"`

	layers []string // digests of what it is made of, where that is kept
}

// nameRE is a local name: it is part of a file's name, and has no '@' or ':',
// which catalog references and digests have.
var nameRE = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,127}$`)

// stage is the name of all progress that this package reports.
const stage = "image"
