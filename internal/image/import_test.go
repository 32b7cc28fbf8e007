package image_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"banger.dev/banger"
	"banger.dev/banger/internal/du"
	"banger.dev/banger/internal/image"
	"banger.dev/banger/internal/image/layer"
	"banger.dev/banger/internal/image/oci"
	"banger.dev/banger/internal/paths"
)

// built is an image of these layers, as another program would have made it.
func built(t *testing.T, config v1.ConfigFile, layers ...[]byte) v1.Image {
	t.Helper()
	config.RootFS.Type = "layers"
	if config.OS == "" {
		config.OS, config.Architecture = "linux", "amd64"
	}
	img, err := mutate.ConfigFile(empty.Image, &config)
	for _, l := range layers {
		if err != nil {
			break
		}
		var made v1.Layer
		if made, err = tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(l)), nil }); err == nil {
			img, err = mutate.AppendLayers(img, made)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func dockerArchive(t *testing.T, img v1.Image) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := tarball.Write(name.MustParseReference("mine:1"), img, &out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// ociArchive is a tar of an OCI layout of these images.
func ociArchive(t *testing.T, images ...v1.Image) []byte {
	t.Helper()
	dir := t.TempDir()
	p, err := layout.Write(dir, empty.Index)
	for _, img := range images {
		if err == nil {
			err = p.AppendImage(img)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("tar", "-C", dir, "-cf", "-", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func zipped(t *testing.T, p []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(p); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// An image is the same, by its digest and on disk, whatever brought it; a root
// without a configuration is one too.
func TestImport(t *testing.T) {
	needStore(t)
	store, where := newStore(t, oci.Settings{})
	img := built(t, v1.ConfigFile{Config: v1.Config{Env: []string{"A=b"}, User: "7"}},
		pack(t, "bin/sh", "shell", "gone", "x", "kept", "low"), pack(t, ".wh.gone", "", "kept", "up"))
	digest, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	docker, layout := dockerArchive(t, img), ociArchive(t, img)
	for name, archive := range map[string][]byte{"docker": docker, "docker.gz": zipped(t, docker), "oci": layout, "oci.gz": zipped(t, layout)} {
		got, err := store.Import(t.Context(), name, bytes.NewReader(archive), nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got.Digest != digest.String() || got.Name != name || got.User != "7" || got.Env[0] != "A=b" {
			t.Errorf("%s: %+v", name, got)
		}
		if kept := debugfs(t, got.RootFS, "cat /kept"); kept != "up" {
			t.Errorf("%s: kept holds %q", name, kept)
		}
		if found, err := store.Resolve(t.Context(), name, nil); err != nil || found.Digest != got.Digest {
			t.Errorf("%s: %+v, %v", name, found, err)
		}
		if err := store.Remove(t.Context(), got.Digest); err != nil { // for the next to make it
			t.Fatal(err)
		}
	}
	root, err := store.Import(t.Context(), "root", bytes.NewReader(zipped(t, pack(t, "bin/sh", "shell", "zeros", strings.Repeat("\x00", 1<<20)))), nil)
	if err != nil || root.Source != "tar" || root.User != "" {
		t.Errorf("%+v, %v", root, err)
	}
	if got := debugfs(t, root.RootFS, "cat /bin/sh"); got != "shell" {
		t.Errorf("/bin/sh holds %q", got)
	}
	nothingHalfMade(t, where)
}

func manifestOf(t *testing.T, config string, layers ...string) string {
	t.Helper()
	b, err := json.Marshal([]map[string]any{{"Config": config, "Layers": layers}})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// endless is a tar of one file that never ends.
type endless struct {
	io.Reader
	n int64
}

func (e *endless) Read(p []byte) (int, error) {
	if n, err := e.Reader.Read(p); err == nil {
		return n, nil
	}
	clear(p)
	p[0] = 1
	e.n += int64(len(p))
	return len(p), nil
}

// What is no image is refused with the reason, and nothing is left of it: no
// name, no file.
func TestImportRefuses(t *testing.T) {
	needStore(t)
	good := built(t, v1.ConfigFile{}, pack(t, "bin/sh", "shell"))
	docker := dockerArchive(t, good)
	config := `{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":["sha256:` + strings.Repeat("a", 64) + `"]}}`
	arm := dockerArchive(t, built(t, v1.ConfigFile{OS: "linux", Architecture: "arm64"}, pack(t, "a", "b")))
	spoilt := bytes.Replace(ociArchive(t, good), []byte(`"architecture":"amd64"`), []byte(`"architecture":"amd65"`), 1)
	for what, test := range map[string]struct {
		archive io.Reader
		want    string
	}{
		"empty":             {strings.NewReader(""), "empty"},
		"text":              {strings.NewReader(strings.Repeat("no tar ", 200)), "tar"},
		"cut off":           {bytes.NewReader(docker[:len(docker)/2]), "cut off"},
		"cut gzip":          {bytes.NewReader(zipped(t, docker)[:200]), "read the archive: decompress it: unexpected EOF"},
		"no manifest":       {bytes.NewReader(pack(t, "abc/layer.tar", "x")), "cut off"},
		"other host":        {bytes.NewReader(arm), "the image in the archive: it is for linux/arm64"},
		"two images":        {bytes.NewReader(ociArchive(t, good, built(t, v1.ConfigFile{}, pack(t, "c", "d")))), "holds 2 images"},
		"wrong config":      {bytes.NewReader(spoilt), "has the digest"},
		"no JSON":           {bytes.NewReader(pack(t, "manifest.json", "{")), "manifest.json"},
		"nothing in it":     {bytes.NewReader(pack(t, "manifest.json", "[]")), "holds 0 images"},
		"no config":         {bytes.NewReader(pack(t, "manifest.json", manifestOf(t, "../../etc/passwd"))), "which its manifest names"},
		"no layer":          {bytes.NewReader(pack(t, "c", config, "manifest.json", manifestOf(t, "c", "l"))), "which its manifest names"},
		"wrong layer":       {bytes.NewReader(pack(t, "c", config, "l", string(pack(t, "a", "b")), "manifest.json", manifestOf(t, "c", "l"))), "another tar"},
		"too many layers":   {bytes.NewReader(pack(t, "c", config, "l", "", "manifest.json", manifestOf(t, "c", "l", "l"))), "2 layers"},
		"manifest too long": {bytes.NewReader(pack(t, "manifest.json", strings.Repeat(" ", 5<<20))), "at most"},
		"leads out":         {bytes.NewReader(pack(t, "../out", "x")), "leads out"},
		"xz":                {strings.NewReader("\xfd7zXZ\x00 and so on"), "xz"},
		"endless":           {&endless{Reader: bytes.NewReader(pack(t, "a", "b")[:1024])}, "unpacks to more than"},
		"zeros":             {bytes.NewReader(zipped(t, make([]byte, 64<<20))), ""},
	} {
		t.Run(what, func(t *testing.T) {
			where := paths.Layout{Cache: t.TempDir()}
			store := image.New(where, func() image.Settings {
				return image.Settings{Limits: layer.Limits{Entries: 1000, Size: 16 * banger.MiB}}
			})
			_, err := store.Import(t.Context(), "x", test.archive, nil)
			if banger.KindOf(err) != banger.KindInvalid || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v", err)
			}
			if list, err := store.List(t.Context()); err != nil || len(list) != 0 {
				t.Errorf("%v, %v", list, err)
			}
			nothingHalfMade(t, where)
		})
	}
	store, _ := newStore(t, oci.Settings{})
	if _, err := store.Import(t.Context(), "../x", nil, nil); banger.KindOf(err) != banger.KindInvalid {
		t.Error(err)
	}
}

// gone is a client that is gone after a while.
type gone struct {
	io.Reader
	leave context.CancelFunc
}

func (g gone) Read(p []byte) (int, error) {
	n, err := g.Reader.Read(p)
	if err == io.EOF {
		g.leave()
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func TestImportOfAClientThatIsGone(t *testing.T) {
	needStore(t)
	store, where := newStore(t, oci.Settings{})
	ctx, leave := context.WithCancel(t.Context())
	docker := dockerArchive(t, built(t, v1.ConfigFile{}, pack(t, "bin/sh", "shell")))
	if _, err := store.Import(ctx, "x", gone{bytes.NewReader(docker), leave}, nil); err == nil {
		t.Error("imported")
	}
	nothingHalfMade(t, where)
	// What a killed daemon has left goes with the next one.
	half := filepath.Join(where.Images(), "tmp", "x")
	if err := os.MkdirAll(half, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(half, "archive"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Import(t.Context(), "x", bytes.NewReader(docker), nil); err != nil {
		t.Error(err)
	}
	nothingHalfMade(t, where)
}

// What a pull has brought an import finds, and the other way round: there is one
// image, and no layer is kept or fetched for the second.
func TestWhatIsPulledAndImportedIsKeptOnce(t *testing.T) {
	r := startRegistry(t)
	config, layers := v1.ConfigFile{Config: v1.Config{User: "7"}}, [][]byte{pack(t, "bin/sh", noise(1<<16)), pack(t, "more", "more")}
	r.push("one", config, layers...)
	img := built(t, config, layers...)
	for _, archive := range [][]byte{dockerArchive(t, img), ociArchive(t, img)} {
		store, where := newStore(t, oci.Settings{})
		takeIn := func() banger.Image {
			got, err := store.Import(t.Context(), "mine", bytes.NewReader(archive), nil)
			if err != nil {
				t.Fatal(err)
			}
			return got
		}
		pull := func() banger.Image {
			got, _, err := store.Pull(t.Context(), r.host()+"/one", nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			return got
		}
		pulled := pull()
		before := takes(t, where.Images())
		if got := takeIn(); got.RootFS != pulled.RootFS || takes(t, where.Images())-before > banger.MiB/16 {
			t.Errorf("pulled %s, imported %s, %s and then %s", pulled.RootFS, got.RootFS, before, takes(t, where.Images()))
		}
		store, _ = newStore(t, oci.Settings{})
		imported := takeIn()
		fetched := r.bytes.Load()
		if got := pull(); got.RootFS != imported.RootFS || r.bytes.Load()-fetched > 4096 { // what describes it is a blob too
			t.Errorf("imported %s, pulled %s, for %d bytes", imported.RootFS, got.RootFS, r.bytes.Load()-fetched)
		}
	}
}

// takes is what a directory takes on the disk.
func takes(t *testing.T, dir string) banger.Bytes {
	t.Helper()
	n, err := new(du.Counter).Tree(dir)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Old archives have a link where a layer is there already.
func TestImportOfLinkedLayers(t *testing.T) {
	needStore(t)
	l := pack(t, "bin/sh", "shell")
	img := built(t, v1.ConfigFile{}, l, l)
	config, err := img.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	put := func(h tar.Header, content []byte) {
		h.Size, h.Mode = int64(len(content)), 0o644
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	put(tar.Header{Name: "one/layer.tar"}, l)
	put(tar.Header{Name: "two/layer.tar", Typeflag: tar.TypeSymlink, Linkname: "../one/layer.tar"}, nil)
	put(tar.Header{Name: "c.json"}, config)
	put(tar.Header{Name: "manifest.json"}, []byte(manifestOf(t, "c.json", "one/layer.tar", "two/layer.tar")))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	store, _ := newStore(t, oci.Settings{})
	if _, err := store.Import(t.Context(), "x", &out, nil); err != nil {
		t.Error(err)
	}
}
