// Package replace writes small files whole or not at all. It is for what fits
// into memory; what is streamed or filled piece by piece has its own way.
package replace

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
)

// File gives path this content and mode, whatever the umask: written to another
// name, synced and renamed. Whoever reads path sees the old file or the new one.
//
// The temporary file is beside path and of a name of its own, so that it is as
// private as what it becomes, and that two writers do not meet in it. Left to
// itself the library would take $TMPDIR where that is on the same file system.
func File(path string, content []byte, mode fs.FileMode) error {
	f, err := renameio.NewPendingFile(path, renameio.WithTempDir(filepath.Dir(path)), renameio.WithStaticPermissions(mode))
	if err != nil {
		return err
	}
	defer f.Cleanup() //nolint:errcheck // after a failure, which is what is told
	if _, err := f.Write(content); err != nil {
		return err
	}
	return f.CloseAtomicallyReplace()
}

// Sweep removes what writers of path left that were killed. Nobody may be
// writing it.
func Sweep(path string) error {
	entries, err := os.ReadDir(filepath.Dir(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		number, temporary := strings.CutPrefix(e.Name(), "."+filepath.Base(path))
		if temporary && number != "" && strings.Trim(number, "0123456789") == "" {
			err = errors.Join(err, os.Remove(filepath.Join(filepath.Dir(path), e.Name())))
		}
	}
	return err
}
