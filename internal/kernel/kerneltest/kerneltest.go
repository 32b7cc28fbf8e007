// Package kerneltest makes kernel packages of a few kilobytes for tests: they
// have the form of Debian's and nothing that could be booted.
package kerneltest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"path"
	"slices"
	"strings"
)

// VMLinux is an x86-64 ELF program of size bytes (at least 120) with one
// program header. One of 4096 or more has a second, and says in the note behind
// that it can be started by a VMM.
func VMLinux(size int) []byte {
	b := make([]byte, size)
	copy(b, elf.ELFMAG)
	b[elf.EI_CLASS], b[elf.EI_DATA], b[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)
	le := binary.LittleEndian
	le.PutUint16(b[16:], uint16(elf.ET_EXEC))
	le.PutUint16(b[18:], uint16(elf.EM_X86_64))
	le.PutUint32(b[20:], 1)
	le.PutUint64(b[32:], 64) // program headers
	le.PutUint16(b[52:], 64)
	le.PutUint16(b[54:], 56)
	le.PutUint16(b[56:], 1)
	le.PutUint32(b[64:], uint32(elf.PT_LOAD))
	if size < 4096 {
		return b
	}
	const note = 1024
	le.PutUint16(b[56:], 2)
	le.PutUint32(b[120:], uint32(elf.PT_NOTE))
	le.PutUint64(b[128:], note)
	le.PutUint64(b[152:], 20) // size
	le.PutUint32(b[note:], 4)
	le.PutUint32(b[note+4:], 4)
	le.PutUint32(b[note+8:], 18)
	copy(b[note+12:], "Xen\x00")
	return b
}

// BzImage is a bzImage whose payload is compressed, with the unpacked size
// behind it if that is not 0.
func BzImage(compressed []byte, size uint32) []byte {
	const setup = 2 * 512
	payload := slices.Clone(compressed)
	if size != 0 {
		payload = binary.LittleEndian.AppendUint32(payload, size)
	}
	b := make([]byte, setup+16+len(payload)+8)
	le := binary.LittleEndian
	b[0x1f1] = 1
	le.PutUint16(b[0x1fe:], 0xaa55)
	copy(b[0x202:], "HdrS")
	le.PutUint16(b[0x206:], 0x020f)
	le.PutUint32(b[0x248:], 16)
	le.PutUint32(b[0x24c:], uint32(len(payload)))
	copy(b[setup+16:], payload)
	return b
}

// NamedBzImage is a BzImage that says its release.
func NamedBzImage(release string, compressed []byte) []byte {
	b := BzImage(compressed, 0)
	const at = 0x300 // after the header, in the first two sectors
	binary.LittleEndian.PutUint16(b[0x20e:], at-512)
	copy(b[at:0x400], release+" (nobody@nowhere) #1\x00")
	return b
}

// Gzip is data compressed.
func Gzip(data []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(data) // to memory
	_ = w.Close()
	return b.Bytes()
}

// Module is a kernel module: fields are the "key=value" of its .modinfo, and
// exports the symbols that other modules can use.
func Module(fields, exports []string) []byte {
	modinfo := []byte(strings.Join(fields, "\x00") + "\x00")
	names := []byte{0}
	symbols := make([]byte, 24) // the first is empty
	for _, e := range exports {
		symbol := make([]byte, 24)
		binary.LittleEndian.PutUint32(symbol, uint32(len(names)))
		symbol[4] = elf.ST_INFO(elf.STB_GLOBAL, elf.STT_OBJECT)
		symbols = append(symbols, symbol...)
		names = append(names, "__ksymtab_"+e+"\x00"...)
	}
	return object([]section{
		{".modinfo", elf.SHT_PROGBITS, modinfo, 0, 0},
		{".symtab", elf.SHT_SYMTAB, symbols, 3, 24},
		{".strtab", elf.SHT_STRTAB, names, 0, 0},
	})
}

type section struct {
	name  string
	kind  elf.SectionType
	data  []byte
	link  uint32
	entry uint64
}

// object is a relocatable ELF file of sections, numbered from 1.
func object(sections []section) []byte {
	sections = append(sections, section{name: ".shstrtab", kind: elf.SHT_STRTAB})
	names := []byte{0}
	offsets := make([]uint32, len(sections))
	for i, s := range sections {
		offsets[i] = uint32(len(names))
		names = append(names, s.name+"\x00"...)
	}
	sections[len(sections)-1].data = names
	b := VMLinux(120)[:64]
	headers := make([]byte, 64) // section 0
	le := binary.LittleEndian
	for i, s := range sections {
		h := make([]byte, 64)
		le.PutUint32(h, offsets[i])
		le.PutUint32(h[4:], uint32(s.kind))
		le.PutUint64(h[24:], uint64(len(b)))
		le.PutUint64(h[32:], uint64(len(s.data)))
		le.PutUint32(h[40:], s.link)
		le.PutUint64(h[48:], 1)
		le.PutUint64(h[56:], s.entry)
		headers = append(headers, h...)
		b = append(b, s.data...)
	}
	le.PutUint16(b[16:], uint16(elf.ET_REL))
	le.PutUint64(b[32:], 0)
	le.PutUint64(b[40:], uint64(len(b)))
	le.PutUint16(b[54:], 0)
	le.PutUint16(b[56:], 0)
	le.PutUint16(b[58:], 64)
	le.PutUint16(b[60:], uint16(len(sections)+1))
	le.PutUint16(b[62:], uint16(len(sections)))
	return append(b, headers...)
}

// File is one file of a package. A Link makes it a symbolic link.
type File struct {
	Name string // as it is in the archive
	Data []byte
	Link string
}

// Deb is a Debian package with these files and their directories.
func Deb(files []File) []byte {
	var data bytes.Buffer
	w := tar.NewWriter(&data)
	made := map[string]bool{}
	for _, f := range files {
		for _, dir := range parents(f.Name) {
			if !made[dir] {
				made[dir] = true
				must(w.WriteHeader(&tar.Header{Name: dir + "/", Typeflag: tar.TypeDir, Mode: 0o755}))
			}
		}
		h := &tar.Header{Name: f.Name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(f.Data))}
		if f.Link != "" {
			h.Typeflag, h.Linkname = tar.TypeSymlink, f.Link
		}
		must(w.WriteHeader(h))
		_, err := w.Write(f.Data)
		must(err)
	}
	must(w.Close())
	var control bytes.Buffer
	c := tar.NewWriter(&control)
	text := "Package: test\nVersion: 1\nArchitecture: amd64\nMaintainer: nobody\nDescription: none\n"
	must(c.WriteHeader(&tar.Header{Name: "./control", Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(text))}))
	_, err := c.Write([]byte(text))
	must(err)
	must(c.Close())

	var deb bytes.Buffer
	deb.WriteString("!<arch>\n")
	member(&deb, "debian-binary", []byte("2.0\n"))
	member(&deb, "control.tar", control.Bytes())
	member(&deb, "data.tar", data.Bytes())
	return deb.Bytes()
}

func parents(name string) []string {
	dir := path.Dir(name)
	if dir == "." || dir == "/" || strings.HasSuffix(dir, "..") {
		return nil
	}
	return append(parents(dir), dir)
}

// member writes one member of an ar archive.
func member(b *bytes.Buffer, name string, data []byte) {
	fmt.Fprintf(b, "%-16s%-12d%-6d%-6d%-8o%-10d`\n", name, 0, 0, 0, 0o100644, len(data))
	b.Write(data)
	if len(data)%2 == 1 {
		b.WriteByte('\n')
	}
}

// must is for what cannot fail in memory.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// KernelDeb is a whole kernel package of a release: the boot modules that a
// guest needs, some of them built in, as in Debian's cloud kernel.
func KernelDeb(release string) []byte { return Deb(KernelFiles(release)) }

// KernelFiles are those of a KernelDeb.
func KernelFiles(release string) []File {
	const vmlinux = 8192
	modules := "./usr/lib/modules/" + release + "/"
	return []File{
		{Name: "./boot/System.map-" + release, Data: []byte("unused")},
		{Name: "./boot/config-" + release, Data: []byte("CONFIG_64BIT=y\n")},
		{Name: "./boot/vmlinuz-" + release, Data: BzImage(Gzip(VMLinux(vmlinux)), 0)},
		{Name: modules + "kernel/drivers/block/virtio_blk.ko", Data: Module([]string{"name=virtio_blk", "depends="}, nil)},
		{Name: modules + "kernel/drivers/net/virtio_net.ko.gz", Data: Gzip(Module([]string{"name=virtio_net", "depends=net_failover", "alias=virtio:d00000001v*"}, nil))},
		{Name: modules + "kernel/drivers/net/net_failover.ko", Data: Module([]string{"name=net_failover", "depends=failover"}, []string{"net_failover_create"})},
		{Name: modules + "kernel/net/core/failover.ko", Data: Module([]string{"name=failover", "depends="}, []string{"failover_register"})},
		{Name: modules + "modules.builtin", Data: []byte("kernel/drivers/virtio/virtio_pci.ko\nkernel/drivers/char/virtio_console.ko\nkernel/fs/ext4/ext4.ko\n")},
		{Name: modules + "modules.order", Data: []byte("kernel/drivers/block/virtio_blk.ko\nkernel/drivers/net/virtio_net.ko\nkernel/drivers/net/net_failover.ko\nkernel/net/core/failover.ko\n")},
		{Name: modules + "build", Link: "/usr/src/linux-headers-" + release},
	}
}
