package oci

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"banger.dev/banger"
)

// maxMembers is how many members the tar of an image has at most: its layers,
// what describes them, and directories. One with more is something else.
const maxMembers = 8 * maxLayers

// maxNesting is how many indexes may lie in one another.
const maxNesting = 4

// archive is a tar with an image in it, by what its members are called.
type archive struct {
	file  *os.File
	parts map[string]part
	links map[string]string
}

// part is where a member's content lies.
type part struct{ offset, size int64 }

// ReadArchive finds the image that docker save has written, or that a tar of an
// OCI layout holds, and where its layers lie in f. It gives nil if the tar holds
// something else. The layers are checked when they are read.
func ReadArchive(f *os.File) (*Image, []Stored, error) {
	a, err := index(f)
	if a == nil || err != nil {
		return nil, nil, err
	}
	switch {
	case a.has("manifest.json"):
		return a.docker()
	case a.has("index.json") && a.has("oci-layout"):
		return a.layout()
	case a.hasLayers():
		return nil, nil, banger.Errorf(banger.KindInvalid, "the archive has layers of an image, and neither manifest.json nor index.json to say which: it may be cut off")
	}
	return nil, nil, nil
}

// index reads the headers of a tar. It is nil if that cannot be an image's.
func index(f *os.File) (*archive, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	a := &archive{file: f, parts: map[string]part{}, links: map[string]string{}}
	members := tar.NewReader(f)
	for range maxMembers {
		h, err := members.Next()
		if errors.Is(err, io.EOF) {
			return a, nil
		}
		if err != nil {
			return nil, nil //nolint:nilerr // whoever reads it as a root says what is wrong with it
		}
		offset, err := f.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		name := path.Clean(h.Name)
		switch h.Typeflag {
		case tar.TypeReg:
			a.parts[name] = part{offset, h.Size}
		case tar.TypeSymlink:
			a.links[name] = path.Join(path.Dir(name), h.Linkname)
		}
	}
	return nil, nil
}

func (a *archive) has(name string) bool {
	_, ok := a.parts[name]
	return ok
}

func (a *archive) hasLayers() bool {
	for name := range a.parts {
		if strings.HasPrefix(name, "blobs/sha256/") || name == "oci-layout" || strings.Count(name, "/") == 1 && path.Base(name) == "layer.tar" {
			return true
		}
	}
	return false
}

// find is the part with this name; old archives have links from one layer to
// another.
func (a *archive) find(name string) (part, error) {
	name = path.Clean(name)
	if to, ok := a.links[name]; ok {
		name = to
	}
	p, ok := a.parts[name]
	if !ok {
		return p, banger.Errorf(banger.KindInvalid, "the archive has no %.200q, which its manifest names", name)
	}
	return p, nil
}

// read gives a part that describes something.
func (a *archive) read(name string, most int64) ([]byte, error) {
	p, err := a.find(name)
	if err != nil {
		return nil, err
	}
	if p.size > most {
		return nil, banger.Errorf(banger.KindInvalid, "%.200q in the archive has %d bytes, at most %d can be", name, p.size, most)
	}
	content := make([]byte, p.size)
	if _, err := a.file.ReadAt(content, p.offset); err != nil {
		return nil, banger.Errorf(banger.KindInvalid, "read %.200q in the archive: %w", name, err)
	}
	return content, nil
}

// decode is read for JSON, which it may check against a digest.
func (a *archive) decode(name string, most int64, digest v1.Hash, into any) error {
	content, err := a.read(name, most)
	if err != nil {
		return err
	}
	if got := sum(content); digest != (v1.Hash{}) && got != digest {
		return banger.Errorf(banger.KindInvalid, "%.200q in the archive has the digest %s", name, got)
	}
	if err := json.Unmarshal(content, into); err != nil {
		return banger.Errorf(banger.KindInvalid, "%.200q in the archive: %w", name, err)
	}
	return nil
}

func sum(content []byte) v1.Hash {
	h, _, err := v1.SHA256(bytes.NewReader(content))
	if err != nil {
		panic(err) // a reader of bytes has no errors
	}
	return h
}

// docker reads what docker save and podman save write.
func (a *archive) docker() (*Image, []Stored, error) {
	var list []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	if err := a.decode("manifest.json", maxManifest, v1.Hash{}, &list); err != nil {
		return nil, nil, err
	}
	if len(list) != 1 {
		return nil, nil, banger.Errorf(banger.KindInvalid, "the archive holds %d images: save one at a time", len(list))
	}
	one := list[0]
	content, err := a.read(one.Config, maxConfig)
	if err != nil {
		return nil, nil, err
	}
	image := &Image{Name: "docker-archive", Digest: sum(content).String()}
	if len(one.RepoTags) > 0 {
		image.Name += ":" + one.RepoTags[0]
	}
	if err := json.Unmarshal(content, &image.Config); err != nil {
		return nil, nil, banger.Errorf(banger.KindInvalid, "the image's configuration: %w", err)
	}
	if err := suits(&image.Config, len(one.Layers)); err != nil {
		return nil, nil, fmt.Errorf("the image in the archive: %w", err)
	}
	stored, err := a.stored(&image.Config, one.Layers)
	return image, stored, err
}

// layout reads what an OCI layout holds.
func (a *archive) layout() (*Image, []Stored, error) {
	m, err := a.manifest()
	if err != nil {
		return nil, nil, err
	}
	image := &Image{Name: "oci", Digest: m.Config.Digest.String()}
	if err := a.decode(blob(m.Config.Digest), maxConfig, m.Config.Digest, &image.Config); err != nil {
		return nil, nil, err
	}
	if image.Layers, err = layersOf(m, &image.Config); err != nil {
		return nil, nil, fmt.Errorf("the image in the archive: %w", err)
	}
	var names []string
	for _, l := range image.Layers {
		names = append(names, blob(l.Digest))
	}
	stored, err := a.stored(&image.Config, names)
	return image, stored, err
}

// manifest is that of the layout's one image for this host.
func (a *archive) manifest() (*v1.Manifest, error) {
	name, digest := "index.json", v1.Hash{}
	for range maxNesting {
		var list v1.IndexManifest
		if err := a.decode(name, maxManifest, digest, &list); err != nil {
			return nil, err
		}
		var fit []v1.Descriptor
		for _, d := range list.Manifests {
			if isOurs(d) {
				fit = append(fit, d)
			}
		}
		if len(fit) != 1 {
			return nil, banger.Errorf(banger.KindInvalid, "the archive holds %d images for %s: it must be one", len(fit), platform())
		}
		name, digest = blob(fit[0].Digest), fit[0].Digest
		if !fit[0].MediaType.IsIndex() {
			m := &v1.Manifest{}
			return m, a.decode(name, maxManifest, digest, m)
		}
	}
	return nil, banger.Errorf(banger.KindInvalid, "the archive has more than %d indexes in one another", maxNesting)
}

func blob(digest v1.Hash) string { return path.Join("blobs", digest.Algorithm, digest.Hex) }

// stored is where the layers with these names lie, the lowest first.
func (a *archive) stored(config *v1.ConfigFile, names []string) ([]Stored, error) {
	var list []Stored
	for i, name := range names {
		p, err := a.find(name)
		if err != nil {
			return nil, err
		}
		list = append(list, Stored{Path: a.file.Name(), DiffID: config.RootFS.DiffIDs[i].Hex, Offset: p.offset, Size: p.size})
	}
	return list, nil
}
