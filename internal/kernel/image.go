package kernel

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"banger.dev/banger"
)

// extractImage writes the uncompressed kernel of a bzImage, or of one that is
// uncompressed already, and gives the release that a bzImage says.
func extractImage(vmlinux string, image *os.File) (release string, err error) {
	info, err := image.Stat()
	if err != nil {
		return "", err
	}
	head := make([]byte, elfHeaderSize)
	if _, err := io.ReadFull(image, head); err == nil && string(head[:4]) == elf.ELFMAG {
		if info.Size() > maxVMLinux {
			return "", banger.Errorf(banger.KindInvalid, "the kernel has %d bytes; at most %d are taken", info.Size(), int64(maxVMLinux)).WithNext("strip -g vmlinux")
		}
		return "", writeFile(vmlinux, func(w io.Writer) error {
			return copyVMLinux(w, io.MultiReader(bytes.NewReader(head), image), info.Size())
		})
	}
	content := make([]byte, min(info.Size(), maxBzImage+1))
	if _, err := image.ReadAt(content, 0); err != nil && err != io.EOF {
		return "", err
	}
	return imageRelease(content), writeFile(vmlinux, func(w io.Writer) error { return ExtractVMLinux(w, content) })
}

// offKernelVersion is where a bzImage says where its version is: u16, without the
// first sector.
const offKernelVersion = 0x20e

// imageRelease is the release that a bzImage says, or "".
func imageRelease(image []byte) string {
	if len(image) < bzHeaderSize {
		return ""
	}
	offset := int(binary.LittleEndian.Uint16(image[offKernelVersion:]))
	if offset == 0 || offset+512 > len(image) {
		return ""
	}
	text := image[offset+512 : min(len(image), offset+512+256)]
	release, _, _ := strings.Cut(string(text), " ")
	return release
}

var bannerRE = regexp.MustCompile(`^Linux version (\S{1,64}) \(`)

// bannerRelease is the release that an uncompressed kernel says when it boots, or "".
func bannerRelease(f *os.File) (release string, err error) {
	err = occurrences(f, "Linux version ", func(at int64) (more bool) {
		text := make([]byte, 128)
		n, _ := f.ReadAt(text, at)
		if found := bannerRE.FindSubmatch(text[:n]); found != nil {
			release = string(found[1])
		}
		return release == ""
	})
	return release, err
}

// maxConfig bounds a kernel's config; Debian's has 270 KB.
const maxConfig = 4 << 20

// embeddedConfig writes the config that a kernel with CONFIG_IKCONFIG carries; of
// others nothing.
func embeddedConfig(w io.Writer, vmlinux string) error {
	f, err := os.Open(vmlinux)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	const begin = "IKCFG_ST"
	return occurrences(f, begin+"\x1f\x8b", func(at int64) (more bool) {
		z, err := gzip.NewReader(bufio.NewReader(io.NewSectionReader(f, at+int64(len(begin)), maxConfig)))
		if err != nil {
			return true
		}
		z.Multistream(false)
		config, err := io.ReadAll(io.LimitReader(z, maxConfig))
		if err != nil {
			return true
		}
		_, _ = w.Write(config) // writeFile finds out
		return false
	})
}

// maxOccurrences bounds how often a file can make somebody look closer; in real
// kernels it is the first time, or the second.
const maxOccurrences = 100

// occurrences calls each with the places of a pattern in a file until it says
// that it needs no more.
func occurrences(f *os.File, pattern string, each func(at int64) (more bool)) error {
	buf, found := make([]byte, 1<<20), 0
	for at := int64(0); ; at += int64(len(buf) - len(pattern) + 1) { // one may lie across two
		n, err := f.ReadAt(buf, at)
		if err != nil && err != io.EOF {
			return err
		}
		for from := 0; ; {
			i := bytes.Index(buf[from:n], []byte(pattern))
			if i < 0 {
				break
			}
			if found++; !each(at+int64(from+i)) || found == maxOccurrences {
				return nil
			}
			from += i + 1
		}
		if n < len(buf) {
			return nil
		}
	}
}

// pvhEntry is the type of Xen's note that names the entry point.
const pvhEntry = 18

// checkPVH says whether QEMU can start an uncompressed kernel: it must say where
// a virtual machine enters it.
func checkPVH(r io.ReaderAt) error {
	f, err := elf.NewFile(r)
	if err != nil {
		return banger.Errorf(banger.KindInvalid, "the kernel is a damaged ELF file: %w", err)
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_NOTE {
			continue
		}
		notes, err := io.ReadAll(io.LimitReader(p.Open(), 64<<10))
		if err != nil {
			return banger.Errorf(banger.KindInvalid, "the kernel is a damaged ELF file: %w", err)
		}
		if hasNote(notes, "Xen\x00", pvhEntry) {
			return nil
		}
	}
	return banger.Errorf(banger.KindInvalid, "the kernel has no entry point for virtual machines").WithNext("build it with CONFIG_PVH=y")
}

// hasNote looks for a note among those of an ELF segment.
func hasNote(notes []byte, name string, kind uint32) bool {
	le := binary.LittleEndian
	for len(notes) >= 12 {
		nameSize, size := uint64(le.Uint32(notes)), uint64(le.Uint32(notes[4:]))
		end := 12 + (nameSize+3)/4*4 + (size+3)/4*4
		if end > uint64(len(notes)) {
			return false
		}
		if le.Uint32(notes[8:]) == kind && string(notes[12:12+nameSize]) == name {
			return true
		}
		notes = notes[end:]
	}
	return false
}

// needed is what a guest needs to boot: an option of a kernel's config, and what
// says in the kernel itself that it is built in, if anything does.
func needed() []struct{ option, says string } {
	return []struct{ option, says string }{
		{"VIRTIO_PCI", "virtio-pci\x00"}, {"VIRTIO_BLK", "virtio_blk\x00"}, {"VIRTIO_CONSOLE", "virtio_console\x00"}, {"VIRTIO_NET", "virtio_net\x00"},
		{"EXT4_FS", "ext4\x00"}, {"DEVTMPFS", "devtmpfs\x00"}, {"BLK_DEV_INITRD", ""},
	}
}

// builtIn says what of that which a guest needs to boot a kernel without modules
// lacks. One whose config nobody has said is looked into: every driver has its
// name in it.
func builtIn(config, vmlinux string) error {
	f, err := os.Open(config)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	options, err := readConfig(f)
	if err != nil {
		return err
	}
	var missing []string
	for _, need := range needed() {
		has := options[need.option] == "y"
		if len(options) == 0 {
			if has, err = contains(vmlinux, need.says); err != nil {
				return err
			}
		}
		if !has {
			missing = append(missing, "CONFIG_"+need.option)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return banger.Errorf(banger.KindInvalid, "the kernel came without modules and has not built in %s, which a guest needs to boot", strings.Join(missing, ", ")).
		WithNext("banger kernel import --help, and --modules DIR")
}

// contains says whether a file has this in it.
func contains(file, pattern string) (found bool, err error) {
	if pattern == "" {
		return true, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }()
	err = occurrences(f, pattern, func(int64) (more bool) {
		found = true
		return false
	})
	return found, err
}

// readConfig reads what a kernel was built with: option without CONFIG_ to its
// value, y or m for most.
func readConfig(r io.Reader) (map[string]string, error) {
	options := map[string]string{}
	err := eachLine(r, func(line string) error {
		key, value, ok := strings.Cut(line, "=")
		option, is := strings.CutPrefix(key, "CONFIG_")
		if !ok || !is {
			return fmt.Errorf("%.80q is no line of a kernel's config", line)
		}
		options[option] = value
		return nil
	})
	if errors.Is(err, bufio.ErrTooLong) {
		return nil, errors.New("a line of the kernel's config is too long")
	}
	return options, err
}
