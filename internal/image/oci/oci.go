// Package oci fetches images from registries: it reads references, finds what
// is for this host, and brings layers, verified, into a directory that all
// images share. What registries send is hostile: bounded, checked against the
// digest that names it, and given up when nothing comes.
//
// It makes no file system of an image and knows no local names.
package oci

import (
	"net/http"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"banger.dev/banger"
)

// Settings are what a user can say of registries.
type Settings struct {
	Default   string   // of references without a host; "": they name nothing
	Mirrors   []string // HOST=MIRROR, asked before the host, in their order
	PlainHTTP []string // hosts that are asked without TLS, beside the loopback ones
}

// Credential is what a registry lets in.
type Credential struct {
	Username      string `json:"username,omitempty"`
	Password      string `json:"password,omitempty"`
	IdentityToken string `json:"identity_token,omitempty"` // for its token server
	RegistryToken string `json:"registry_token,omitempty"` // a bearer token
}

// Client fetches. Credentials belong to one fetch and are not kept.
type Client struct {
	Settings    Settings
	Layers      string                // directory of layers, made if need be
	Credentials map[string]Credential // by host, as Hosts has them
	Report      banger.ProgressFunc

	Base  http.RoundTripper // nil: as http.DefaultTransport, without a proxy for loopback
	Stall time.Duration     // how long nothing may come; 0 is DefaultStall
}

// DefaultStall is how long a registry may be silent.
const DefaultStall = 30 * time.Second

// Limits of what describes an image. Layers are bounded by their unpacked size.
const (
	maxManifest = 4 << 20 // as Docker's own registry has it
	maxConfig   = 8 << 20
	maxLayers   = 512
)

// dockerHub is what references call docker.io.
const dockerHub = "index.docker.io"

// Parse reads a reference. One without a host is of the default registry.
func (s Settings) Parse(ref string) (name.Reference, error) {
	first, _, more := strings.Cut(ref, "/")
	hasHost := more && (strings.ContainsAny(first, ".:") || first == "localhost")
	if !hasHost && s.Default == "" {
		return nil, banger.Errorf(banger.KindNotFound, "%q has no host, and there is no default registry", ref)
	}
	if strings.HasPrefix(ref, ".") || strings.HasPrefix(ref, "/") {
		return nil, banger.Errorf(banger.KindInvalid, "%q is no reference of an image: it looks like a path", ref).
			WithNext("banger image import --name NAME %s", ref)
	}
	options := append(s.options(first), name.WithDefaultRegistry(s.Default))
	parsed, err := name.ParseReference(ref, options...)
	if err != nil {
		return nil, banger.Errorf(banger.KindInvalid, "%q is no reference of an image: %w", ref, unfit(ref, options))
	}
	return parsed, nil
}

// unfit is what is wrong with a reference.
func unfit(ref string, options []name.Option) error {
	if strings.Contains(ref, "@") {
		_, err := name.NewDigest(ref, options...)
		return err
	}
	_, err := name.NewTag(ref, options...)
	return err
}

func (s Settings) options(host string) []name.Option {
	if slices.Contains(s.PlainHTTP, host) {
		return []name.Option{name.Insecure}
	}
	return nil
}

// Hosts are the registries that would be asked for a reference, mirrors first,
// as ~/.docker/config.json calls them.
func (s Settings) Hosts(ref name.Reference) []string {
	var list []string
	for _, r := range s.places(ref) {
		list = append(list, r.Context().RegistryStr())
	}
	return list
}

// places are where a reference may be found: the mirrors of its registry, then that.
func (s Settings) places(ref name.Reference) []name.Reference {
	var list []name.Reference
	repository, host := ref.Context().RepositoryStr(), ref.Context().RegistryStr()
	for _, m := range s.Mirrors {
		of, mirror, _ := strings.Cut(m, "=")
		if of != host && (of != "docker.io" || host != dockerHub) {
			continue
		}
		separator := ":"
		if _, ok := ref.(name.Digest); ok {
			separator = "@"
		}
		if r, err := name.ParseReference(mirror+"/"+repository+separator+ref.Identifier(), s.options(mirror)...); err == nil {
			list = append(list, r)
		}
	}
	return append(list, ref)
}

// platform is this host's.
func platform() v1.Platform { return v1.Platform{OS: "linux", Architecture: runtime.GOARCH} }
