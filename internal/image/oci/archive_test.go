package oci

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"banger.dev/banger"
)

// FuzzReadArchive has anything describe an image: it is refused, or its layers
// lie in the archive.
func FuzzReadArchive(f *testing.F) {
	config := `{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":["sha256:` + sum([]byte("layer")).Hex + `"]}}`
	f.Add([]byte(`[{"Config":"config","Layers":["layer"]}]`), []byte(config), true)
	f.Add([]byte(`[{"Config":"config","Layers":["link"]},{}]`), []byte(config), true)
	digest := sum([]byte(config)).String()
	manifest := `{"schemaVersion":2,"config":{"digest":"` + digest + `"},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:` + sum([]byte("layer")).Hex + `"}]}`
	f.Add([]byte(manifest), []byte(config), false)
	f.Fuzz(func(t *testing.T, manifest, config []byte, docker bool) {
		file := archiveOf(t, manifest, config, docker)
		image, stored, err := ReadArchive(file)
		switch {
		case err != nil && banger.KindOf(err) != banger.KindInvalid:
			t.Error(err)
		case err == nil && (image == nil || len(stored) != len(image.Config.RootFS.DiffIDs)):
			t.Errorf("%d layers of %+v", len(stored), image)
		}
		end, err := file.Stat()
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range stored {
			if s.Offset <= 0 || s.Size < 0 || s.Offset+s.Size > end.Size() {
				t.Errorf("%+v of %d bytes", s, end.Size())
			}
		}
	})
}

// archiveOf is a docker archive or an OCI layout with these parts, a layer and a link.
func archiveOf(t *testing.T, manifest, config []byte, docker bool) *os.File {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "archive"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	w := tar.NewWriter(file)
	add := func(name string, content []byte) {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	add("layer", []byte("layer"))
	add(blob(sum([]byte("layer"))), []byte("layer"))
	add("config", config)
	add(blob(sum(config)), config)
	if docker {
		add("manifest.json", manifest)
	} else {
		add("oci-layout", []byte("{}"))
		add(blob(sum(manifest)), manifest)
		index := `{"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"` + sum(manifest).String() + `"}]}`
		if bytes.Contains(manifest, []byte("manifests")) {
			index = string(manifest)
		}
		add("index.json", []byte(index))
	}
	if err := w.WriteHeader(&tar.Header{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "layer"}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return file
}
