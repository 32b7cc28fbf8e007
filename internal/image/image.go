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
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/apt"
	"banger.dev/banger/internal/hold"
	"banger.dev/banger/internal/image/layer"
	"banger.dev/banger/internal/image/oci"
	"banger.dev/banger/internal/paths"
	"banger.dev/banger/internal/steps"
)

// Builder makes an image here.
type Builder interface {
	// Key names what Build would make at this moment; a new key is a new image.
	Key() string
	// Source says for people what it makes.
	Source() string
	// Build writes the root as a tar to w. tmp is an empty directory for its
	// own files, removed afterwards.
	Build(ctx context.Context, tmp string, w io.Writer, report banger.ProgressFunc) error
}

// Store is the images in one cache. It is safe for concurrent use.
type Store struct {
	// Stall is how long a registry may be silent; 0 is oci.DefaultStall.
	Stall time.Duration
	Steps steps.Runner // without faults but in tests

	layout    paths.Layout
	settings  func() Settings
	images    *hold.Table // which VMs need which image
	templates *hold.Table // and which template
}

// New gives the images under layout.Cache. Its settings are asked for at each
// use; nil is Defaults.
func New(layout paths.Layout, settings func() Settings) *Store {
	if settings == nil {
		settings = Defaults
	}
	return &Store{layout: layout, settings: settings, images: newHolds(layout.Images()), templates: newHolds(layout.Templates())}
}

// Settings are what a user can say of images.
type Settings struct {
	Registries oci.Settings
	Limits     layer.Limits
	Catalog    map[string]Entry
}

// Defaults are the settings of somebody who has set nothing, but that no registry
// is asked unless it is named.
func Defaults() Settings {
	return Settings{Limits: layer.DefaultLimits(), Catalog: Catalog(apt.DetectSources, nil)}
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

// stage is the name of all progress that this package reports.
const stage = "image"
