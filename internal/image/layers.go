package image

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"banger.dev/banger"
	"banger.dev/banger/internal/paths"
)

func (s *Store) layersDir() string { return filepath.Join(s.layout.Images(), "layers") }

// layersLock is shared by those who fetch layers and make images of them, and had
// alone by who removes some. No other key has its name.
func (s *Store) layersLock() string { return s.lockFile("layers@") }

// layersOf are the names of the layers that an image is made of, as far as they
// are kept.
func (s *Store) layersOf(hex string) (names []string, err error) {
	var m manifest
	err = readJSON(filepath.Join(s.dir(hex), manifestFile), &m)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, l := range m.Layers {
		names = append(names, paths.DigestDir(l))
	}
	return names, err
}

// layerEntries are the layers in the cache. One is needed, and current, as the
// images are that are made of it.
func (s *Store) layerEntries(images []banger.CacheEntry) ([]banger.CacheEntry, error) {
	var failed []error
	files := namesIn(s.layersDir(), &failed)
	layers, at := make([]banger.CacheEntry, len(files)), map[string]int{}
	for i, name := range files {
		layers[i] = banger.CacheEntry{Kind: banger.CacheLayer, Name: name[:min(len(name), minDigits)], Path: filepath.Join(s.layersDir(), name)}
		at[name] = i
	}
	for _, img := range images {
		names, err := s.layersOf(paths.DigestDir(img.Digest))
		if errors.Is(err, errDamaged) {
			err = nil // whoever makes the image again fetches them
		}
		failed = append(failed, err)
		for _, name := range names {
			if i, kept := at[name]; kept {
				layers[i].Holders += img.Holders
				layers[i].Current = layers[i].Current || img.Current
			}
		}
	}
	return layers, errors.Join(failed...)
}

// removeLayer removes a layer that no image is made of. It is KindConflict if
// there is one, or somebody fetches layers.
func (s *Store) removeLayer(name string) error {
	unlock, err := tryLock(s.layersLock())
	if errors.Is(err, errBusy) {
		return banger.Errorf(banger.KindConflict, "an image is being pulled")
	}
	if err != nil {
		return err
	}
	defer unlock()
	needed, err := s.neededLayers()
	if err != nil {
		return err
	}
	if needed[name] {
		return banger.Errorf(banger.KindConflict, "an image is made of it")
	}
	if err := os.Remove(filepath.Join(s.layersDir(), name)); !errors.Is(err, fs.ErrNotExist) { // its image has gone with it
		return err
	}
	return nil
}

// sweepLayers removes the layers that no image is made of, unless somebody fetches
// some: it may need them, and the next removal sees to the rest.
func (s *Store) sweepLayers() error {
	return ifFree(s.layersLock(), func() error {
		needed, err := s.neededLayers()
		if err != nil {
			return err
		}
		var failed []error
		for _, name := range namesIn(s.layersDir(), &failed) {
			if !needed[name] {
				failed = append(failed, os.Remove(filepath.Join(s.layersDir(), name)))
			}
		}
		return errors.Join(failed...)
	})
}

// neededLayers are the names of the layers that images are made of.
func (s *Store) neededLayers() (map[string]bool, error) {
	digests, err := s.digests()
	if err != nil {
		return nil, err
	}
	needed := map[string]bool{}
	for _, hex := range digests {
		names, err := s.layersOf(hex)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			needed[name] = true
		}
	}
	return needed, nil
}
