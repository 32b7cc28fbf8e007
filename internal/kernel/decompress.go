package kernel

import (
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/therootcompany/xz"
	"github.com/ulikunitz/xz/lzma"
)

// compression is one of the formats that kernels and modules come in.
type compression string

// The formats.
const (
	compressionNone    compression = ""
	compressionGzip    compression = "gzip"
	compressionXZ      compression = "xz"
	compressionLZMA    compression = "lzma"
	compressionBzip2   compression = "bzip2"
	compressionLZ4     compression = "lz4" // the legacy frame, which the kernel's build writes
	compressionZstd    compression = "zstd"
	compressionLZO     compression = "lzo"
	compressionUnknown compression = "unknown"
)

// detectCompression knows a format by how it begins.
func detectCompression(b []byte) compression {
	for _, f := range []struct {
		magic string
		is    compression
	}{
		{"\x1f\x8b", compressionGzip},
		{"\xfd7zXZ\x00", compressionXZ},
		{"\x5d\x00\x00", compressionLZMA},
		{"BZh", compressionBzip2},
		{"\x02\x21\x4c\x18", compressionLZ4},
		{"\x28\xb5\x2f\xfd", compressionZstd},
		{"\x89LZO\x00\r\n\x1a\n", compressionLZO},
		{"\x7fELF", compressionNone},
	} {
		if bytes.HasPrefix(b, []byte(f.magic)) {
			return f.is
		}
	}
	return compressionUnknown
}

// maxWindow bounds what a zstd, xz or lzma stream may make its decoder allocate; the
// kernel's build uses windows of up to 128 MiB (zstd -22 --ultra).
const maxWindow = 128 << 20

// decompressor reads the one stream of format c that r is. r must be buffered
// or in memory: some of the decoders take single bytes.
func decompressor(c compression, r io.Reader) (io.ReadCloser, error) {
	switch c {
	case compressionNone:
		return io.NopCloser(r), nil
	case compressionGzip:
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, err
		}
		z.Multistream(false)
		return z, nil
	case compressionXZ:
		z, err := xz.NewReader(r, maxWindow)
		if err != nil {
			return nil, err
		}
		z.Multistream(false)
		return io.NopCloser(z), nil
	case compressionLZMA:
		z, err := lzma.ReaderConfig{DictCap: maxWindow}.NewReader(r)
		if err != nil {
			return nil, err
		}
		return io.NopCloser(z), nil
	case compressionBzip2:
		return io.NopCloser(bzip2.NewReader(r)), nil
	case compressionLZ4:
		return io.NopCloser(lz4.NewReader(r)), nil
	case compressionZstd:
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	case compressionLZO:
		return nil, errors.New("lzo compression is not supported; build the kernel with CONFIG_KERNEL_ZSTD")
	}
	return nil, errors.New("its compression is none of gzip, xz, lzma, bzip2, lz4, zstd or none")
}

// maxModule bounds one unpacked module; Debian's largest is 11 MB.
const maxModule = 128 << 20

// unpackModule is the ELF object in a module file, whose name says how it is
// compressed: .ko, .ko.xz, .ko.zst or .ko.gz.
func unpackModule(name string, data []byte) ([]byte, error) {
	c := compressionUnknown
	switch path.Ext(name) {
	case ".ko":
		c = compressionNone
	case ".xz":
		c = compressionXZ
	case ".zst":
		c = compressionZstd
	case ".gz":
		c = compressionGzip
	}
	r, err := decompressor(c, bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("module %s: %w", name, err)
	}
	defer func() { _ = r.Close() }()
	ko, err := io.ReadAll(io.LimitReader(r, maxModule+1))
	if err != nil {
		return nil, fmt.Errorf("module %s: %w", name, err)
	}
	if len(ko) > maxModule {
		return nil, fmt.Errorf("module %s is larger than %d bytes", name, maxModule)
	}
	return ko, nil
}
