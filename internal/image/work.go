package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/image/ext4"
	"banger.dev/banger/internal/image/layer"
	"banger.dev/banger/internal/image/oci"
	"banger.dev/banger/internal/steps"
	"banger.dev/banger/internal/userns"
)

// work is the making of one image: its lock is held and its directory is empty.
type work struct {
	store  *Store
	key    string
	name   string
	dir    string
	report banger.ProgressFunc
	unlock func()
}

// begin takes the lock of key, waiting for another maker, and removes what dead
// makers have left.
func (s *Store) begin(ctx context.Context, key, name string, report banger.ProgressFunc) (*work, error) {
	unlock, err := lock(ctx, s.lockFile(key), func() {
		report.Report(banger.Progress{Stage: stage, Message: "waiting for another pull of " + name})
	})
	if err != nil {
		return nil, err
	}
	return s.beginLocked(ctx, key, name, report, unlock)
}

// beginBeside is begin for what a client sends, who may stand still: nobody waits
// for another one that makes something of the same name, for each has a place of
// its own.
func (s *Store) beginBeside(ctx context.Context, name string, report banger.ProgressFunc) (*work, error) {
	for n := 1; ; n++ {
		key := name
		if n > 1 {
			key = fmt.Sprintf("%s~%d", name, n)
		}
		unlock, err := tryLock(s.lockFile(key))
		switch {
		case errors.Is(err, errBusy):
			continue
		case err != nil:
			return nil, err
		}
		return s.beginLocked(ctx, key, name, report, unlock)
	}
}

// beginLocked removes what dead makers have left, with the lock of key held.
func (s *Store) beginLocked(ctx context.Context, key, name string, report banger.ProgressFunc, unlock func()) (*work, error) {
	w := &work{store: s, key: key, name: name, dir: filepath.Join(s.layout.Images(), "tmp", key), report: report, unlock: unlock}
	err := errors.Join(s.Sweep(ctx), userns.RemoveAll(ctx, w.dir))
	if err == nil {
		err = makeDirs(w.dir)
	}
	if err != nil {
		unlock()
		return nil, err
	}
	return w, nil
}

func (s *Store) lockFile(key string) string { return filepath.Join(s.layout.Images(), "locks", key) }

func (w *work) run(ctx context.Context, list ...steps.Step) error {
	return w.store.Steps.RunUnnamed(ctx, w.key, list...)
}

// giveName is the last step of a making: until then an image is known by its
// digest alone. Whoever dies before it leaves one that the same making finds and
// a prune removes.
func (s *Store) giveName(ctx context.Context, ref string, to reference) error {
	return s.Steps.RunUnnamed(ctx, ref, steps.Step{Name: "image.name", Do: func(context.Context) error { return s.setRef(ref, to) }})
}

// endTimeout bounds the tidying when the context has ended.
const endTimeout = time.Minute

// end removes what is left and lets go of the lock. What it cannot remove, the
// next sweep does.
func (w *work) end() {
	ctx, cancel := context.WithTimeout(context.Background(), endTimeout)
	defer cancel()
	_ = userns.RemoveAll(ctx, w.dir)
	w.unlock()
}

// add makes the image of a tar and moves it to its place.
func (w *work) add(ctx context.Context, r io.Reader, config Config) (banger.Image, error) {
	stream := &stream{r: r, sum: sha256.New(), report: w.report}
	if config.Architecture == "" {
		config.Architecture = runtime.GOARCH
	}
	return w.make(ctx, config, func(path string, limits layer.Limits) (made, error) {
		tree, err := ext4.FromTar(ctx, path, stream, limits, fileSystem)
		if err != nil {
			return made{}, err
		}
		digest, err := config.seal(stream.sum)
		return made{digest, fileSystem.Size, initOf(tree)}, err
	})
}

// addLayers makes an image of its layers and moves it to its place. kept are the
// digests of those that stay in the cache with it.
func (w *work) addLayers(ctx context.Context, found *oci.Image, stored []oci.Stored, kept []string) (banger.Image, error) {
	config := found.Config.Config
	var layers []ext4.Layer
	for i, l := range stored {
		layers = append(layers, &observed{Stored: l, ctx: ctx, report: w.report, number: i + 1, of: len(stored)})
	}
	return w.make(ctx, Config{
		Source: found.Name, Architecture: found.Config.Architecture, Env: config.Env, Workdir: config.WorkingDir,
		User: config.User, Entrypoint: config.Entrypoint, Cmd: config.Cmd, layers: kept,
	}, func(path string, limits layer.Limits) (made, error) {
		tree, err := ext4.FromLayers(ctx, path, layers, limits, fileSystem)
		return made{found.Digest, fileSystem.Size, initOf(tree)}, err
	})
}

// fileSystem is what images get that bring none.
var fileSystem = ext4.Options{Size: banger.DefaultDisk, Label: "banger-root"}

// made is what there is to say of a file system that has been written.
type made struct {
	digest string
	size   banger.Bytes
	init   string
}

// seal ends the sum of an image's contents with what is said of it beside: the
// same files with another command are another image.
func (c Config) seal(sum hash.Hash) (digest string, err error) {
	said, err := json.Marshal(c)
	sum.Write(said)
	return "sha256:" + hex.EncodeToString(sum.Sum(nil)), err
}

// make makes an image, whose file system fill writes, and moves it to its place.
func (w *work) make(ctx context.Context, config Config, fill func(path string, limits layer.Limits) (made, error)) (img banger.Image, err error) {
	out := filepath.Join(w.dir, "out")
	var digest string
	err = w.run(ctx,
		steps.Step{Name: "image.write", Do: func(context.Context) (err error) {
			digest, err = w.write(out, config, fill)
			return err
		}},
		steps.Step{Name: "image.publish", Do: func(context.Context) (err error) {
			img, err = w.publish(out, digest)
			return err
		}},
	)
	return img, err
}

// write makes the directory out with the files of an image, the manifest last.
func (w *work) write(out string, config Config, fill func(path string, limits layer.Limits) (made, error)) (digest string, err error) {
	if err := os.Mkdir(out, 0o755); err != nil {
		return "", err
	}
	m := manifest{Version: manifestVersion, Layers: config.layers, Image: banger.Image{
		Name: w.name, Source: config.Source, Created: time.Now().UTC().Truncate(time.Second), Architecture: config.Architecture,
		Env: config.Env, Workdir: config.Workdir, User: config.User, Entrypoint: config.Entrypoint, Cmd: config.Cmd,
	}}
	done, err := fill(filepath.Join(out, rootFS), w.store.settings().Limits)
	if err != nil {
		return "", fmt.Errorf("make the image %s: %w", w.name, err)
	}
	m.Digest, m.Size, m.Init = done.digest, done.size, done.init
	return m.Digest, writeJSON(filepath.Join(out, manifestFile), m)
}

// publish moves a whole image to the place that its digest names. If it is
// there already, that one stays: VMs may be using it.
func (w *work) publish(out, digest string) (banger.Image, error) {
	if err := os.Chmod(out, 0o755); err != nil {
		return banger.Image{}, err
	}
	err := os.Rename(out, w.store.dir(digest))
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return banger.Image{}, err
	}
	if err := syncDir(w.store.layout.Images()); err != nil {
		return banger.Image{}, err
	}
	img, err := w.store.load(digest)
	if errors.Is(err, errDamaged) { // what lies there: mend what VMs do not have open
		if err := os.Rename(filepath.Join(out, manifestFile), filepath.Join(w.store.dir(digest), manifestFile)); err != nil {
			return banger.Image{}, err
		}
		return w.store.load(digest)
	}
	return img, err
}

// AddTar makes an image of an uncompressed tar of a root, and gives it a local
// name that Resolve finds, in place of what had that name. The reader must end
// when ctx does.
func (s *Store) AddTar(ctx context.Context, name string, r io.Reader, config Config, report banger.ProgressFunc) (banger.Image, error) {
	return s.makeNamed(ctx, name, report, func(w *work) (banger.Image, error) { return w.add(ctx, r, config) })
}

// makeNamed has do make an image that gets a local name.
func (s *Store) makeNamed(ctx context.Context, name string, report banger.ProgressFunc, do func(*work) (banger.Image, error)) (banger.Image, error) {
	if err := banger.ValidateImageName(name); err != nil {
		return banger.Image{}, err
	}
	w, err := s.beginBeside(ctx, name, report)
	if err != nil {
		return banger.Image{}, err
	}
	defer w.end()
	img, err := do(w)
	if err != nil {
		return banger.Image{}, err
	}
	img.Name = name
	return img, s.giveName(ctx, name, reference{Digest: img.Digest})
}

// Name gives an image a local name, which another loses if it has it.
func (s *Store) Name(name, digest string) error {
	if err := banger.ValidateImageName(name); err != nil {
		return err
	}
	if _, err := s.load(digest); err != nil {
		return fmt.Errorf("name the image %s: %w", digest, err)
	}
	return s.setRef(name, reference{Digest: digest})
}

// stream sums up a tar and reports how far it is.
type stream struct {
	r      io.Reader
	sum    hash.Hash
	report banger.ProgressFunc
	done   int64
	said   int64
}

// reportEvery is how many bytes lie between two reports.
const reportEvery = 16 << 20

func (s *stream) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.sum.Write(p[:n])
	s.done += int64(n)
	switch {
	case err == io.EOF:
		s.report.Report(banger.Progress{Stage: stage, Message: "write the file system", Done: s.done, Bytes: true})
	case s.done-s.said >= reportEvery:
		s.said = s.done
		s.report.Report(banger.Progress{Stage: stage, Message: "unpack", Done: s.done, Bytes: true})
	}
	return n, err
}
