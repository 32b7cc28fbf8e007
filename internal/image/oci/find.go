package oci

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"banger.dev/banger"
)

// Image is an image that a registry has, as it describes it.
type Image struct {
	Name   string // the reference, whole
	Digest string // of its configuration, and so of what is in it
	Config v1.ConfigFile
	Layers []Layer // the lowest first

	place name.Reference
	way   http.RoundTripper // with what the registry wants of us
}

// Layer is one of an image's.
type Layer struct {
	Digest v1.Hash // of what travels and is kept
	Size   int64   // of the same
	DiffID v1.Hash // of the tar in it
}

// Find asks the registries of a reference what it is. It is KindNotFound if
// none has it, KindUnavailable if one could not be asked.
func (c *Client) Find(ctx context.Context, ref name.Reference) (*Image, error) {
	var failed error
	for _, place := range c.Settings.places(ref) {
		image, err := c.find(ctx, place)
		if err == nil {
			image.Name = ref.Name()
			return image, nil
		}
		if ctx.Err() != nil {
			return nil, err
		}
		failed = err // the last is the reference's own registry
	}
	return nil, failed
}

func (c *Client) find(ctx context.Context, place name.Reference) (*Image, error) {
	way, err := transport.NewWithContext(ctx, place.Context().Registry, c.authenticator(place), c.transport(), []string{place.Scope(transport.PullScope)})
	if err != nil {
		return nil, explain(place, err)
	}
	found, err := remote.Get(place, remote.WithContext(ctx), remote.WithTransport(way), remote.WithPlatform(platform()))
	if err != nil {
		return nil, explain(place, err)
	}
	if err := offers(found); err != nil {
		return nil, explain(place, err)
	}
	image, err := found.Image()
	if err != nil {
		return nil, explain(place, err)
	}
	described, err := describe(image)
	if err != nil {
		return nil, explain(place, err)
	}
	described.place, described.way = place, way
	return described, nil
}

// offers says whether what was found has an image for this host, if it has several.
func offers(found *remote.Descriptor) error {
	if !found.MediaType.IsIndex() {
		return nil
	}
	index, err := found.ImageIndex()
	if err != nil {
		return err
	}
	list, err := index.IndexManifest()
	if err != nil {
		return err
	}
	var others []string
	for _, d := range list.Manifests {
		if isOurs(d) {
			return nil
		}
		others = append(others, d.Platform.OS+"/"+d.Platform.Architecture)
	}
	return banger.Errorf(banger.KindInvalid, "it is for %.200q, and this host is %s", strings.Join(others, ", "), platform())
}

// isOurs says whether one of several images is for this host.
func isOurs(d v1.Descriptor) bool {
	p := platform()
	return d.Platform == nil || d.Platform.OS == p.OS && d.Platform.Architecture == p.Architecture
}

func (c *Client) authenticator(place name.Reference) authn.Authenticator {
	cred, ok := c.Credentials[place.Context().RegistryStr()]
	if !ok {
		return authn.Anonymous
	}
	return authn.FromConfig(authn.AuthConfig{Username: cred.Username, Password: cred.Password, IdentityToken: cred.IdentityToken, RegistryToken: cred.RegistryToken})
}

// describe reads and judges manifest and configuration of an image.
func describe(image v1.Image) (*Image, error) {
	m, err := image.Manifest()
	if err != nil {
		return nil, err
	}
	if m.Config.Size < 0 || m.Config.Size > maxConfig || len(m.Layers) > maxLayers {
		return nil, banger.Errorf(banger.KindInvalid, "its manifest has %d layers and a configuration of %d bytes; at most %d and %d can be", len(m.Layers), m.Config.Size, maxLayers, maxConfig)
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	layers, err := layersOf(m, config)
	return &Image{Digest: m.Config.Digest.String(), Config: *config, Layers: layers}, err
}

// suits says whether this host can run an image with this configuration and
// number of layers.
func suits(config *v1.ConfigFile, layers int) error {
	if p := platform(); config.Architecture != p.Architecture || config.OS != p.OS {
		return banger.Errorf(banger.KindInvalid, "it is for %s/%s, and this host is %s/%s", config.OS, config.Architecture, p.OS, p.Architecture)
	}
	if layers > maxLayers {
		return banger.Errorf(banger.KindInvalid, "its manifest has %d layers; at most %d can be", layers, maxLayers)
	}
	if len(config.RootFS.DiffIDs) != layers {
		return banger.Errorf(banger.KindInvalid, "its manifest has %d layers and its configuration %d", layers, len(config.RootFS.DiffIDs))
	}
	for _, id := range config.RootFS.DiffIDs {
		if id.Algorithm != "sha256" {
			return banger.Errorf(banger.KindInvalid, "its configuration names a layer %q, which is no sha256", id)
		}
	}
	return nil
}

// layersOf are the layers of an image that this host can run.
func layersOf(m *v1.Manifest, config *v1.ConfigFile) ([]Layer, error) {
	if err := suits(config, len(m.Layers)); err != nil {
		return nil, err
	}
	var list []Layer
	for i, l := range m.Layers {
		if !l.MediaType.IsLayer() || !l.MediaType.IsDistributable() || l.Digest.Algorithm != "sha256" || l.Size < 0 {
			return nil, banger.Errorf(banger.KindInvalid, "its layer %s is of the type %q, which makes no root file system", l.Digest, l.MediaType)
		}
		list = append(list, Layer{Digest: l.Digest, Size: l.Size, DiffID: config.RootFS.DiffIDs[i]})
	}
	return list, nil
}

// explain says of an error what it means for people.
func explain(place name.Reference, err error) error {
	var answer *transport.Error
	var known *banger.Error
	switch {
	case errors.As(err, &known):
		return &banger.Error{Kind: known.Kind, Message: fmt.Sprintf("the image %s: %s", place.Name(), known.Message), Next: known.Next, Err: known.Err}
	case errors.Is(err, context.Canceled):
		return err
	case errors.As(err, &answer) && (answer.StatusCode == http.StatusUnauthorized || answer.StatusCode == http.StatusForbidden):
		return banger.Errorf(banger.KindUnavailable, "%s does not let us have %s: %s", place.Context().RegistryStr(), place.Name(), diagnosis(answer)).
			WithNext("docker login %s", place.Context().RegistryStr())
	case errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound:
		return banger.Errorf(banger.KindNotFound, "%s has no image %s: %s", place.Context().RegistryStr(), place.Name(), diagnosis(answer))
	case errors.As(err, &answer):
		return banger.Errorf(banger.KindUnavailable, "%s answers %d to the question for %s: %s", place.Context().RegistryStr(), answer.StatusCode, place.Name(), diagnosis(answer))
	}
	return banger.Errorf(banger.KindUnavailable, "get the image %s: %w", place.Name(), err).
		WithNext("curl -sS %s://%s/v2/", place.Context().Scheme(), place.Context().RegistryStr())
}

// diagnosis is what a registry says, the first of it.
func diagnosis(answer *transport.Error) string {
	for _, d := range answer.Errors {
		return fmt.Sprintf("%s %.200q", d.Code, d.Message)
	}
	return http.StatusText(answer.StatusCode)
}
