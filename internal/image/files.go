package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"golang.org/x/sys/unix"

	"banger.dev/banger"
	"banger.dev/banger/internal/paths"
	"banger.dev/banger/internal/replace"
)

// manifestVersion counts incompatible changes of manifest.json.
const manifestVersion = 1

// The files of an image.
const (
	rootFS       = "rootfs.ext4"
	manifestFile = "manifest.json"
)

// manifest is manifest.json.
type manifest struct {
	Version int      `json:"version"`
	Layers  []string `json:"layers,omitempty"` // digests of what is kept of it in layers/
	banger.Image
}

// reference is refs/<name>.json.
type reference struct {
	Digest string `json:"digest"`
	Name   string `json:"name,omitempty"` // of a registry's image, as the user called it
}

var hexDigestRE = regexp.MustCompile(`^[0-9a-f]{64}$`)

func (s *Store) dir(digest string) string {
	return filepath.Join(s.layout.Images(), paths.DigestDir(digest))
}

func (s *Store) refFile(name string) string {
	return filepath.Join(s.layout.Images(), "refs", name+".json")
}

// errDamaged is the cause of the errors of files that are there and are not what
// they should be.
var errDamaged = errors.New("damaged")

// load reads the image with this digest. It is fs.ErrNotExist if it is not whole,
// and errDamaged if it is no more.
func (s *Store) load(digest string) (banger.Image, error) {
	var m manifest
	if err := readJSON(filepath.Join(s.dir(digest), manifestFile), &m); err != nil {
		return m.Image, err
	}
	if m.Version != manifestVersion {
		return m.Image, banger.Errorf(banger.KindConflict, "the image %s in %s is of version %d, this banger knows version %d",
			digest, s.layout.Images(), m.Version, manifestVersion).WithNext("use the newer banger, or set BANGER_CACHE to another directory")
	}
	m.RootFS = filepath.Join(s.dir(digest), rootFS)
	var st unix.Stat_t
	err := unix.Stat(m.RootFS, &st)
	if err == nil && st.Size != int64(m.Size) {
		err = damaged(m.RootFS, fmt.Errorf("it has %d bytes instead of %d", st.Size, m.Size))
	}
	m.Allocated = banger.Bytes(st.Blocks) * 512
	return m.Image, err
}

// loadBase is load for VMs that are laid over the image already: they need its
// file system, and nothing of what the manifest says beside.
func (s *Store) loadBase(digest string) (banger.Image, error) {
	img, err := s.load(digest)
	path := filepath.Join(s.dir(digest), rootFS)
	if st, serr := os.Stat(path); errors.Is(err, errDamaged) && img.Digest == "" && serr == nil {
		return banger.Image{Digest: "sha256:" + paths.DigestDir(digest), RootFS: path, Size: banger.Bytes(st.Size())}, nil
	}
	return img, err
}

// damaged is the error for a file of the cache that cannot be used.
func damaged(path string, why error) error {
	return banger.Errorf(banger.KindInternal, "%w", fmt.Errorf("%s is %w: %w", path, errDamaged, why)).WithNext("ls -l %s", filepath.Dir(path))
}

// lookUp reads the image that a reference file names.
func (s *Store) lookUp(ref string) (banger.Image, error) {
	var r reference
	if err := readJSON(s.refFile(ref), &r); err != nil {
		return banger.Image{}, err
	}
	if !hexDigestRE.MatchString(paths.DigestDir(r.Digest)) {
		return banger.Image{}, damaged(s.refFile(ref), errors.New("it holds no digest"))
	}
	img, err := s.load(r.Digest)
	if r.Name != "" {
		img.Name = r.Name
	}
	return img, err
}

// setRef makes a reference file name an image.
func (s *Store) setRef(ref string, to reference) error {
	if err := makeDirs(filepath.Dir(s.refFile(ref))); err != nil {
		return err
	}
	return writeJSON(s.refFile(ref), to)
}

func readJSON(path string, into any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, into); err != nil {
		return damaged(path, err)
	}
	return nil
}

// writeJSON replaces a file whole: written beside it, synced, renamed. Others
// may read it whatever the umask.
func writeJSON(path string, value any) error {
	b, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	if err := replace.File(path, append(b, '\n'), 0o644); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes renames in a directory last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	return d.Sync()
}

// makeDirs makes dir and its parents. dir itself is open to others whatever the
// umask: VMMs run under other uids.
func makeDirs(dir string) error {
	if st, err := os.Stat(dir); err == nil && st.IsDir() {
		return nil
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.Chmod(dir, 0o755)
}
