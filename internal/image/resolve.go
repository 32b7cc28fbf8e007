package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"banger.dev/banger"
)

// Resolve gives the image that ref names: a local name, a digest (or at least
// 12 digits of one), an entry of the catalog, or a reference of a registry's;
// the last two are pulled unless they are here. Once it is here, Resolve needs
// no network and reads a few small files. It is KindNotFound when nothing has
// that name.
func (s *Store) Resolve(ctx context.Context, ref string, report banger.ProgressFunc) (banger.Image, error) {
	if img, ok, err := s.Have(ctx, ref); ok || err != nil {
		return img, err
	}
	return s.pull(ctx, ref, nil, report)
}

// Have is the image that Resolve gives if it is here; ok is false if Resolve
// would have to pull it, or finds nothing.
func (s *Store) Have(_ context.Context, ref string) (img banger.Image, ok bool, err error) {
	if img, ok, err := s.own(ref); ok || err != nil {
		return img, ok, err
	}
	return s.pulled(ref)
}

// own is the image with this local name or digest.
func (s *Store) own(ref string) (img banger.Image, ok bool, err error) {
	img, err = s.local(ref)
	if errors.Is(err, fs.ErrNotExist) {
		img, err = s.byDigest(ref)
	}
	return unlessAbsent(img, err)
}

// pulled is the image that a catalog entry or a reference stands for.
func (s *Store) pulled(ref string) (img banger.Image, ok bool, err error) {
	settings := s.settings()
	key, ok := settings.key(ref)
	if !ok {
		return banger.Image{}, false, nil
	}
	img, err = s.made(key)
	img.Kernel = settings.entry(ref).Kernel
	return unlessAbsent(img, err)
}

func unlessAbsent(img banger.Image, err error) (banger.Image, bool, error) {
	if errors.Is(err, fs.ErrNotExist) {
		return banger.Image{}, false, nil
	}
	return img, err == nil, err
}

// made is the image of a catalog entry or a reference. One that is damaged is
// as good as none: it can be made again.
func (s *Store) made(key string) (banger.Image, error) {
	img, err := s.lookUp(key)
	if errors.Is(err, errDamaged) {
		return banger.Image{}, fs.ErrNotExist
	}
	return img, err
}

// local is the image with a local name.
func (s *Store) local(name string) (banger.Image, error) {
	if !banger.IsLocalName(name) {
		return banger.Image{}, fs.ErrNotExist
	}
	img, err := s.lookUp(name)
	img.Name = name
	return img, err
}

// minDigits is how much of a digest names an image.
const minDigits = 12

var digestRE = regexp.MustCompile(fmt.Sprintf(`^(sha256:)?([0-9a-f]{%d,64})$`, minDigits))

// byDigest is the one image whose digest begins with ref.
func (s *Store) byDigest(ref string) (banger.Image, error) {
	match := digestRE.FindStringSubmatch(ref)
	if match == nil {
		return banger.Image{}, fs.ErrNotExist
	}
	digests, err := s.digests()
	if err != nil {
		return banger.Image{}, err
	}
	digests = slices.DeleteFunc(digests, func(d string) bool { return !strings.HasPrefix(d, match[2]) })
	switch len(digests) {
	case 0:
		return banger.Image{}, fs.ErrNotExist
	case 1:
		return s.loadBase(digests[0])
	}
	return banger.Image{}, banger.Errorf(banger.KindConflict, "%d images have a digest that begins with %s", len(digests), match[2]).
		WithNext("give more of its digits")
}

// digests are the hex digests of what is in the cache.
func (s *Store) digests() ([]string, error) {
	entries, err := os.ReadDir(s.layout.Images())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var list []string
	for _, e := range entries {
		if hexDigestRE.MatchString(e.Name()) {
			list = append(list, e.Name())
		}
	}
	return list, nil
}

// build gives the image of a catalog entry that is made here.
func (s *Store) build(ctx context.Context, entry Entry, report banger.ProgressFunc) (banger.Image, error) {
	key := catalogKey(entry)
	if img, err := s.made(key); !errors.Is(err, fs.ErrNotExist) {
		return img, err
	}
	work, err := s.begin(ctx, key, entry.Name, report)
	if err != nil {
		return banger.Image{}, err
	}
	defer work.end()
	if img, err := s.made(key); !errors.Is(err, fs.ErrNotExist) {
		return img, err // whoever held the lock made it
	}
	img, err := work.build(ctx, entry.Builder)
	if err != nil {
		return banger.Image{}, err
	}
	return img, s.giveName(ctx, key, reference{Digest: img.Digest})
}

// build runs a builder and adds what it writes.
func (w *work) build(ctx context.Context, b Builder) (banger.Image, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	tmp := filepath.Join(w.dir, "build")
	if err := os.Mkdir(tmp, 0o700); err != nil {
		return banger.Image{}, err
	}
	r, pipe := io.Pipe()
	built := make(chan error, 1)
	go func() {
		err := b.Build(ctx, tmp, pipe, w.report)
		_ = pipe.CloseWithError(err) // nil is the end of the tar
		built <- err
	}()
	img, err := w.add(ctx, r, Config{Source: b.Source()})
	if err != nil {
		cancel()
		_ = r.CloseWithError(err)
	}
	if failed := <-built; failed != nil && err == nil {
		err = failed
	}
	return img, err
}
