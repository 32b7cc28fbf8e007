package kernel

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"banger.dev/banger"
	"banger.dev/banger/internal/apt"
)

// Bounds of a kernel package. Debian's cloud kernel has 1,600 entries and 35 MB.
const (
	maxDebEntries = 200_000
	maxDebBytes   = 4 << 30
)

// Names in the directory a package is unpacked to.
const (
	unpackedImage   = "vmlinuz"
	unpackedConfig  = "config"
	unpackedModules = "modules" // what is to be mounted at /lib/modules
)

// unpackDeb takes out of a kernel package what banger uses, into the empty
// directory dir: the image, its config and its modules. It returns the release.
func unpackDeb(ctx context.Context, deb, dir string) (release string, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", err
	}
	defer func() { _ = root.Close() }()
	u := &unpacker{root: root}
	if err := apt.Walk(ctx, deb, u.visit); err != nil {
		return "", fmt.Errorf("unpack the kernel package: %w", err)
	}
	if u.release == "" {
		return "", banger.Errorf(banger.KindInvalid, "%s has no /boot/vmlinuz-*: it is not a kernel package", path.Base(deb))
	}
	if _, err := root.Stat(path.Join(unpackedModules, u.release)); err != nil {
		return "", banger.Errorf(banger.KindInvalid, "%s has no modules for its kernel %s", path.Base(deb), u.release)
	}
	return u.release, nil
}

type unpacker struct {
	root    *os.Root // nothing is written outside it, whatever the names say
	release string
	entries int
	bytes   int64
}

func (u *unpacker) visit(h *tar.Header, content io.Reader) error {
	if u.entries++; u.entries > maxDebEntries {
		return fmt.Errorf("it has more than %d entries", maxDebEntries)
	}
	name := path.Clean("/" + h.Name)
	to, ok := target(name)
	if !ok {
		return nil
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return u.root.MkdirAll(to, 0o755)
	case tar.TypeReg:
	default:
		return nil // build and source are links to headers that are not there
	}
	if u.bytes += h.Size; u.bytes > maxDebBytes {
		return fmt.Errorf("it unpacks to more than %d bytes", int64(maxDebBytes))
	}
	if to == unpackedImage {
		if u.release != "" {
			return errors.New("it has two kernels")
		}
		u.release = strings.TrimPrefix(name, "/boot/vmlinuz-")
	}
	return u.write(to, content)
}

func (u *unpacker) write(to string, content io.Reader) error {
	if err := u.root.MkdirAll(path.Dir(to), 0o755); err != nil {
		return err
	}
	f, err := u.root.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("it has %s twice", to)
	}
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Close())
}

// target is where a file of the package goes, if anywhere.
func target(name string) (to string, ok bool) {
	for _, prefix := range []string{"/lib/modules/", "/usr/lib/modules/"} {
		if rest, ok := strings.CutPrefix(name, prefix); ok && rest != "" {
			return path.Join(unpackedModules, rest), true
		}
	}
	switch {
	case strings.HasPrefix(name, "/boot/vmlinuz-") && !strings.Contains(name[len("/boot/vmlinuz-"):], "/"):
		return unpackedImage, true
	case strings.HasPrefix(name, "/boot/config-") && !strings.Contains(name[len("/boot/config-"):], "/"):
		return unpackedConfig, true
	}
	return "", false
}
