package kernel

import (
	"bufio"
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Bounds of what a kernel image may be. Debian's cloud kernel is 12 MB packed
// and 76 MB unpacked.
const (
	maxBzImage = 256 << 20
	maxVMLinux = 512 << 20
)

// Offsets into a bzImage, from the kernel's Documentation/arch/x86/boot.rst.
const (
	offSetupSects    = 0x1f1 // u8: 512-byte sectors of real-mode code after the first
	offBootFlag      = 0x1fe // u16: 0xaa55
	offHeader        = 0x202 // "HdrS"
	offVersion       = 0x206 // u16: boot protocol
	offPayload       = 0x248 // u32: where the compressed vmlinux is in the protected-mode code
	offPayloadLength = 0x24c // u32
	bzHeaderSize     = 0x250
	payloadProtocol  = 0x0208 // the first version with the two fields above
)

// ExtractVMLinux writes the uncompressed ELF kernel that is in a bzImage, or
// image itself where it already is one. On an error w may have got a part of it.
func ExtractVMLinux(w io.Writer, image []byte) error {
	if bytes.HasPrefix(image, []byte(elf.ELFMAG)) {
		return copyVMLinux(w, bytes.NewReader(image), int64(len(image)))
	}
	payload, err := bzPayload(image)
	if err != nil {
		return fmt.Errorf("not a bzImage: %w", err)
	}
	if bytes.HasPrefix(payload, []byte(elf.ELFMAG)) {
		return copyVMLinux(w, bytes.NewReader(payload), int64(len(payload)))
	}
	// The kernel's build appends the size to what the compressor made; gzip's own
	// trailer ends with the same number.
	if len(payload) < 4 {
		return errors.New("not a bzImage: its payload is empty")
	}
	size := int64(binary.LittleEndian.Uint32(payload[len(payload)-4:]))
	if size > maxVMLinux {
		return fmt.Errorf("the kernel in the bzImage would unpack to %d bytes, more than %d", size, int64(maxVMLinux))
	}
	compression := detectCompression(payload)
	if compression != compressionGzip {
		payload = payload[:len(payload)-4]
	}
	unpacked, err := decompressor(compression, bytes.NewReader(payload))
	if err != nil {
		return fmt.Errorf("unpack the kernel in the bzImage: %w", err)
	}
	defer func() { _ = unpacked.Close() }()
	return copyVMLinux(w, unpacked, size)
}

// bzPayload is the compressed kernel with the size behind it.
func bzPayload(image []byte) ([]byte, error) {
	le := binary.LittleEndian
	switch {
	case len(image) < bzHeaderSize:
		return nil, errors.New("it is too short")
	case len(image) > maxBzImage:
		return nil, fmt.Errorf("it is larger than %d bytes", maxBzImage)
	case le.Uint16(image[offBootFlag:]) != 0xaa55 || string(image[offHeader:offHeader+4]) != "HdrS":
		return nil, errors.New("it has no boot protocol header")
	case le.Uint16(image[offVersion:]) < payloadProtocol:
		return nil, fmt.Errorf("its boot protocol %#x is older than %#x (Linux 2.6.26)", le.Uint16(image[offVersion:]), payloadProtocol)
	}
	sectors := int64(image[offSetupSects])
	if sectors == 0 {
		sectors = 4 // by the protocol, for old images
	}
	start := (sectors+1)*512 + int64(le.Uint32(image[offPayload:]))
	end := start + int64(le.Uint32(image[offPayloadLength:]))
	if start < bzHeaderSize || end > int64(len(image)) || start >= end {
		return nil, fmt.Errorf("its payload (bytes %d to %d) is not inside its %d bytes", start, end, len(image))
	}
	return image[start:end], nil
}

// copyVMLinux copies exactly size bytes of an x86-64 ELF program.
func copyVMLinux(w io.Writer, r io.Reader, size int64) error {
	buffered := bufio.NewReaderSize(io.LimitReader(r, size+1), 256<<10)
	head, err := buffered.Peek(elfHeaderSize)
	if err != nil {
		return fmt.Errorf("unpack the kernel: %w", err)
	}
	if err := checkELF(head, size); err != nil {
		return err
	}
	n, err := io.Copy(w, buffered)
	if err != nil {
		return fmt.Errorf("unpack the kernel: %w", err)
	}
	if n != size {
		return fmt.Errorf("unpack the kernel: got %d bytes or more, but the image says %d", n, size)
	}
	return nil
}

const elfHeaderSize = 64

// checkELF says whether head begins a 64-bit x86 program whose program headers
// are inside size bytes.
func checkELF(head []byte, size int64) error {
	le := binary.LittleEndian
	if string(head[:4]) != elf.ELFMAG || elf.Class(head[elf.EI_CLASS]) != elf.ELFCLASS64 || elf.Data(head[elf.EI_DATA]) != elf.ELFDATA2LSB {
		return errors.New("the unpacked kernel is not a 64-bit little-endian ELF file")
	}
	if m := elf.Machine(le.Uint16(head[18:])); m != elf.EM_X86_64 {
		return fmt.Errorf("the unpacked kernel is for %s, not for x86-64", m)
	}
	if t := elf.Type(le.Uint16(head[16:])); t != elf.ET_EXEC && t != elf.ET_DYN {
		return fmt.Errorf("the unpacked kernel is not a program (%s)", t)
	}
	offset, entry, count := le.Uint64(head[32:]), uint64(le.Uint16(head[54:])), uint64(le.Uint16(head[56:]))
	if count == 0 || entry < 56 || offset > uint64(size) || entry*count > uint64(size)-offset {
		return errors.New("the unpacked kernel has no program headers")
	}
	return nil
}
