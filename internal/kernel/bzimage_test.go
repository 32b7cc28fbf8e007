package kernel

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"banger.dev/banger/internal/kernel/kerneltest"
)

// What other programs made of kerneltest.VMLinux(120), where Go has no writer:
// bzip2, xz --x86, lzma, lz4 -l.
const (
	bzip2Sample = "QlpoOTFBWSZTWfooRJUAABXMgHqAiEFDBAAAoAAxTAABGiZDah6jgvDBrMBpqKfONdkCykl8XckU4UJD6KESVA=="
	bcjSample   = "/Td6WFoAAAFpIt42AgEEACEBCADSuXTL4AB3AB9dAD+RRYRoPYmm2orMk+JO8e3vZzEoYx1arzEkF5Ze4AAAAHroa+AAATd4Eexf7pBCmQ0BAAAAAAFZWg=="
	lzmaSample  = "XQAAgAD//////////wA/kUWEaD2JptqKzJPiTvHt72cxKGMdWq8xJBeXIgb7//+kqgAA"
	lz4Sample   = "AiFMGC4AAACEf0VMRgIBAQABAEYCAD4ADgAwAABABQALAgA1QAA4JAAILAAPAgAUUAAAAAAA"
)

func sample(t testing.TB, s string) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func zstdOf(t testing.TB, data []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	return w.EncodeAll(data, nil)
}

func xzOf(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := xz.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestExtractEveryCompression(t *testing.T) {
	vmlinux := kerneltest.VMLinux(120)
	for name, image := range map[string][]byte{
		"gzip":           kerneltest.BzImage(kerneltest.Gzip(vmlinux), 0),
		"xz":             kerneltest.BzImage(xzOf(t, vmlinux), 120),
		"xz --x86":       kerneltest.BzImage(sample(t, bcjSample), 120),
		"zstd":           kerneltest.BzImage(zstdOf(t, vmlinux), 120),
		"bzip2":          kerneltest.BzImage(sample(t, bzip2Sample), 120),
		"lzma":           kerneltest.BzImage(sample(t, lzmaSample), 120),
		"lz4":            kerneltest.BzImage(sample(t, lz4Sample), 120),
		"none":           kerneltest.BzImage(vmlinux, 0),
		"already an ELF": vmlinux,
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			if err := ExtractVMLinux(&out, image); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(out.Bytes(), vmlinux) {
				t.Errorf("got %d bytes that are not the kernel", out.Len())
			}
		})
	}
}

func TestExtractSaysWhatIsWrong(t *testing.T) {
	vmlinux := kerneltest.VMLinux(120)
	arm := bytes.Clone(vmlinux)
	binary.LittleEndian.PutUint16(arm[18:], 183)
	noHeaders := bytes.Clone(vmlinux)
	binary.LittleEndian.PutUint16(noHeaders[56:], 60000)
	outside := kerneltest.BzImage(kerneltest.Gzip(vmlinux), 0)
	binary.LittleEndian.PutUint32(outside[offPayload:], 1<<31)
	old := kerneltest.BzImage(kerneltest.Gzip(vmlinux), 0)
	binary.LittleEndian.PutUint16(old[offVersion:], 0x207)
	for name, test := range map[string]struct {
		image []byte
		want  string
	}{
		"nothing":             {nil, "too short"},
		"not a bzImage":       {make([]byte, 4096), "no boot protocol header"},
		"old protocol":        {old, "boot protocol 0x207"},
		"payload outside":     {outside, "not inside"},
		"lzo":                 {kerneltest.BzImage([]byte("\x89LZO\x00\r\n\x1a\nxxxx"), 120), "lzo compression is not supported"},
		"unknown compression": {kerneltest.BzImage([]byte("something else"), 120), "none of gzip"},
		"another machine":     {kerneltest.BzImage(kerneltest.Gzip(arm), 0), "not for x86-64"},
		"no program headers":  {kerneltest.BzImage(kerneltest.Gzip(noHeaders), 0), "no program headers"},
		"not an ELF":          {kerneltest.BzImage(kerneltest.Gzip(make([]byte, 200)), 0), "not a 64-bit little-endian ELF"},
		"too large":           {kerneltest.BzImage(zstdOf(t, vmlinux), 1<<30), "more than 536870912"},
		"larger than said":    {kerneltest.BzImage(zstdOf(t, kerneltest.VMLinux(1<<20)), 4096), "but the image says 4096"},
		"smaller than said":   {kerneltest.BzImage(zstdOf(t, vmlinux), 4095), "but the image says 4095"},
		"truncated":           {kerneltest.BzImage(xzOf(t, kerneltest.VMLinux(4096))[:60], 4096), "unpack the kernel"},
	} {
		t.Run(name, func(t *testing.T) {
			err := ExtractVMLinux(io.Discard, test.image)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

// counter fails the test that writes more than the bound.
type counter struct {
	t *testing.T
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	if c.n += int64(len(p)); c.n > maxVMLinux+1 {
		c.t.Fatal("the output is not bounded")
	}
	return len(p), nil
}

func FuzzExtractVMLinux(f *testing.F) {
	vmlinux := kerneltest.VMLinux(120)
	for _, payload := range [][]byte{
		zstdOf(f, vmlinux), xzOf(f, vmlinux), sample(f, bzip2Sample), sample(f, lzmaSample), sample(f, lz4Sample), sample(f, bcjSample),
	} {
		f.Add(kerneltest.BzImage(payload, 120))
	}
	f.Add(kerneltest.BzImage(kerneltest.Gzip(vmlinux), 0))
	f.Add(vmlinux)
	f.Fuzz(func(t *testing.T, image []byte) {
		_ = ExtractVMLinux(&counter{t: t}, image)
	})
}

func FuzzCheckPVH(f *testing.F) {
	f.Add(kerneltest.VMLinux(4096))
	f.Add(kerneltest.VMLinux(120))
	f.Fuzz(func(_ *testing.T, vmlinux []byte) { _ = checkPVH(bytes.NewReader(vmlinux)) })
}

func TestUnpackModule(t *testing.T) {
	ko := kerneltest.Module([]string{"name=x"}, nil)
	for name, data := range map[string][]byte{"x.ko": ko, "x.ko.gz": kerneltest.Gzip(ko), "x.ko.xz": xzOf(t, ko), "x.ko.zst": zstdOf(t, ko)} {
		if got, err := unpackModule(name, data); err != nil || !bytes.Equal(got, ko) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	for name, data := range map[string][]byte{"x.ko.lz": ko, "x.ko.gz": ko, "x.ko.xz": nil} {
		if _, err := unpackModule(name, data); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v, want an error that names it", name, err)
		}
	}
}
