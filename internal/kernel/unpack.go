package kernel

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"banger.dev/banger"
)

// Bounds of a kernel's packages. Debian's cloud kernel has 1,600 entries and
// 35 MB, Ubuntu's generic one with all modules 7,000 and 250 MB.
const (
	maxPackageEntries = 200_000
	maxPackageBytes   = 4 << 30
	maxPackageTar     = maxPackageBytes + maxPackageEntries*2048 // with the headers
)

// Names in the directory a package is unpacked to.
const (
	unpackedImage   = "vmlinuz"
	unpackedConfig  = "config"
	unpackedModules = "modules" // what is to be mounted at /lib/modules
)

// unnamedModules has the modules of a kernel whose release is not said yet.
const unnamedModules = ".unnamed"

// unpacker takes out of packages what banger uses: a kernel, its config and its
// modules.
type unpacker struct {
	dir     string
	root    *os.Root // nothing is written outside it, whatever the names say
	image   bool
	release string // as the image's name has it; "" if it has none
	entries int
	bytes   int64
}

// newUnpacker makes the directory dir.
func newUnpacker(dir string) (*unpacker, error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	return &unpacker{dir: dir, root: root}, err
}

func (u *unpacker) close() error { return u.root.Close() }

// visit takes an entry of a package.
func (u *unpacker) visit(h *tar.Header, content io.Reader) error {
	if u.entries++; u.entries > maxPackageEntries {
		return fmt.Errorf("it has more than %d entries", maxPackageEntries)
	}
	name := path.Clean("/" + h.Name)
	to, release, ok := target(name)
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
	if u.bytes += h.Size; u.bytes > maxPackageBytes {
		return fmt.Errorf("it unpacks to more than %d bytes", int64(maxPackageBytes))
	}
	if to == unpackedImage {
		if u.image {
			return errors.New("it has two kernels")
		}
		u.image, u.release = true, release
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

// target is where a file goes, if anywhere: one of a distribution's package, or
// of the archive that banger kernel import makes of a kernel and its modules. A
// kernel's name may say its release.
func target(name string) (to, release string, ok bool) {
	for prefix, under := range map[string]string{
		"/lib/modules/": "", "/usr/lib/modules/": "", "/modules/": unnamedModules,
	} {
		if rest, ok := strings.CutPrefix(name, prefix); ok && rest != "" {
			return path.Join(unpackedModules, under, rest), "", true
		}
	}
	dir, file := path.Split(name)
	switch {
	case name == "/vmlinuz":
		return unpackedImage, "", true
	case dir == "/boot/" && strings.HasPrefix(file, "vmlinuz-"):
		return unpackedImage, strings.TrimPrefix(file, "vmlinuz-"), true
	case dir == "/boot/" && strings.HasPrefix(file, "config-"):
		return unpackedConfig, "", true
	}
	return "", "", false
}

// releaseRE is what uname -r can be, as far as a file can be named after it.
var releaseRE = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._+~-]{0,63}$`)

// settle makes vmlinux and config in dir of what was unpacked, and sees to it
// that the modules lie in a directory that is called as the kernel calls itself.
func (u *unpacker) settle(dir string) (release string, err error) {
	if err := u.findImage(); err != nil {
		return "", err
	}
	vmlinux := filepath.Join(dir, fileVMLinux)
	release, err = u.extract(vmlinux)
	if err != nil {
		return "", err
	}
	if u.release != "" && u.release != release {
		return "", banger.Errorf(banger.KindInvalid, "the kernel vmlinuz-%s says that it is %s", u.release, release)
	}
	if err := u.writeConfig(vmlinux, filepath.Join(dir, fileConfig)); err != nil {
		return "", err
	}
	return release, u.nameModules(release, filepath.Join(dir, fileConfig), vmlinux)
}

// findImage looks for the kernel among the modules too, where Fedora has it.
func (u *unpacker) findImage() error {
	if u.image {
		return nil
	}
	found, _ := fs.Glob(u.root.FS(), unpackedModules+"/*/vmlinuz")
	switch len(found) {
	case 0:
		return banger.Errorf(banger.KindInvalid, "it has no /boot/vmlinuz-*: it is not a kernel package")
	case 1:
	default:
		return banger.Errorf(banger.KindInvalid, "it has two kernels")
	}
	module := path.Dir(found[0])
	u.release = path.Base(module)
	if config := path.Join(module, unpackedConfig); u.root.Rename(config, unpackedConfig) != nil {
		_ = u.root.Remove(config) // one from /boot is there
	}
	return u.root.Rename(found[0], unpackedImage)
}

// extract writes the uncompressed kernel and finds its release out: from the
// image, else from the kernel, else from the image's name.
func (u *unpacker) extract(vmlinux string) (release string, err error) {
	image, err := u.root.Open(unpackedImage)
	if err != nil {
		return "", err
	}
	defer func() { _ = image.Close() }()
	release, err = extractImage(vmlinux, image)
	if err != nil {
		return "", err
	}
	f, err := os.Open(vmlinux)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	if err := checkPVH(f); err != nil {
		return "", err
	}
	if release == "" {
		if release, err = bannerRelease(f); err != nil {
			return "", err
		}
	}
	if release == "" {
		release = u.release
	}
	if !releaseRE.MatchString(release) {
		return "", banger.Errorf(banger.KindInvalid, "the kernel does not say its release: %.80q", release)
	}
	return release, nil
}

// writeConfig keeps what the kernel was built with, as far as somebody says it.
func (u *unpacker) writeConfig(vmlinux, file string) error {
	config, err := u.root.Open(unpackedConfig)
	if errors.Is(err, fs.ErrNotExist) {
		return writeFile(file, func(w io.Writer) error { return embeddedConfig(w, vmlinux) })
	}
	if err != nil {
		return err
	}
	defer func() { _ = config.Close() }()
	return writeFile(file, func(w io.Writer) error {
		_, err := io.Copy(w, io.LimitReader(config, maxConfig))
		return err
	})
}

// nameModules gives the modules the name that modprobe looks for. A kernel that
// came without any has to have built in what a guest needs.
func (u *unpacker) nameModules(release, config, vmlinux string) error {
	want := path.Join(unpackedModules, release)
	if err := u.root.Rename(path.Join(unpackedModules, unnamedModules), want); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := u.root.Stat(want); err == nil {
		return nil
	}
	if others, _ := fs.Glob(u.root.FS(), unpackedModules+"/*"); len(others) > 0 {
		return banger.Errorf(banger.KindInvalid, "the kernel is %s, and the modules are for %s", release, path.Base(others[0]))
	}
	if err := builtIn(config, vmlinux); err != nil {
		return err
	}
	var list strings.Builder
	for _, m := range bootModules() {
		if !m.optional {
			fmt.Fprintf(&list, "kernel/%s.ko\n", m.name)
		}
	}
	return u.write(path.Join(want, "modules.builtin"), strings.NewReader(list.String()))
}
