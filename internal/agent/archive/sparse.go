package archive

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// copyBuffer is how much of a file is held at a time.
const copyBuffer = 256 << 10

// hole is the unit in which zeros are left out when a sparse file is written.
const hole = 4 << 10

// maxSegments bounds the map of a sparse file, which readers bound too; what is
// more is joined, with the holes between.
const maxSegments = 16 << 10

// segment is a part of a file that holds data.
type segment struct{ offset, length int64 }

// segments are the parts of a file that hold data, nil if it has no holes.
func segments(f *os.File, st unix.Stat_t) []segment {
	if st.Blocks*512 >= st.Size {
		return nil
	}
	fd := int(f.Fd())
	parts := []segment{}
	for at := int64(0); at < st.Size; {
		data, err := unix.Seek(fd, at, unix.SEEK_DATA)
		if err == unix.ENXIO {
			break // a hole up to the end
		}
		if err != nil {
			return nil
		}
		end, err := unix.Seek(fd, data, unix.SEEK_HOLE)
		if err != nil {
			return nil
		}
		end = min(end, st.Size)
		if last := len(parts) - 1; len(parts) == maxSegments {
			parts[last].length = end - parts[last].offset
		} else if end > data {
			parts = append(parts, segment{data, end - data})
		}
		at = end
	}
	if _, err := unix.Seek(fd, 0, io.SeekStart); err != nil || len(parts) == 1 && parts[0].length == st.Size {
		return nil
	}
	return parts
}

// sparse packs the segments of a file in the form that GNU tar calls 0.1. The
// header is written here because archive/tar reads this form and does not
// write it. The tee gets the holes too.
func (p *Packer) sparse(f *os.File, hdr *tar.Header, parts []segment, tee io.Writer) error {
	if err := p.tar.Flush(); err != nil {
		return err
	}
	total, end, held := int64(0), int64(0), make([]string, 0, 2*len(parts)+2)
	for _, s := range parts {
		total, end = total+s.length, s.offset+s.length
		held = append(held, strconv.FormatInt(s.offset, 10), strconv.FormatInt(s.length, 10))
	}
	if end < hdr.Size { // GNU tar makes no hole at the end without this
		held = append(held, strconv.FormatInt(hdr.Size, 10), "0")
	}
	records := [][2]string{
		{"GNU.sparse.size", strconv.FormatInt(hdr.Size, 10)},
		{"GNU.sparse.numblocks", strconv.Itoa(len(held) / 2)}, // GNU tar wants it before the map
		{"GNU.sparse.name", hdr.Name},
		{"GNU.sparse.map", strings.Join(held, ",")},
		{"size", strconv.FormatInt(total, 10)},
		{"uid", strconv.Itoa(hdr.Uid)},
		{"gid", strconv.Itoa(hdr.Gid)},
		{"mtime", strconv.FormatInt(hdr.ModTime.Unix(), 10)},
	}
	for _, key := range slices.Sorted(maps.Keys(hdr.PAXRecords)) {
		records = append(records, [2]string{key, hdr.PAXRecords[key]})
	}
	content := paxRecords(records)
	head := slices.Concat(
		block("PaxHeaders.0/"+path.Base(hdr.Name), tar.TypeXHeader, 0o644, int64(len(content))), padded(content),
		block("GNUSparseFile.0/"+path.Base(hdr.Name), tar.TypeReg, hdr.Mode, total),
	)
	if _, err := p.out.Write(head); err != nil {
		return err
	}
	at := int64(0)
	for _, s := range parts {
		if err := p.zeros(tee, s.offset-at); err != nil {
			return err
		}
		if err := p.copy(both(p.out, tee), io.NewSectionReader(f, s.offset, s.length), hdr.Name, s.length); err != nil {
			return err
		}
		at = s.offset + s.length
	}
	if err := p.zeros(tee, hdr.Size-at); err != nil {
		return err
	}
	_, err := p.out.Write(make([]byte, -total&(tarBlock-1)))
	return err
}

// zeros writes so many of them, if anybody wants them.
func (p *Packer) zeros(tee io.Writer, n int64) error {
	if tee == io.Discard {
		return nil
	}
	clear(p.buf)
	for ; n > 0; n -= int64(len(p.buf)) {
		if _, err := tee.Write(p.buf[:min(n, int64(len(p.buf)))]); err != nil {
			return err
		}
	}
	return nil
}

const tarBlock = 512

// paxRecords are records in their written form: each begins with its own length.
func paxRecords(records [][2]string) []byte {
	var b bytes.Buffer
	for _, r := range records {
		rest := " " + r[0] + "=" + r[1] + "\n"
		size := len(rest)
		for size != len(rest)+len(strconv.Itoa(size)) {
			size = len(rest) + len(strconv.Itoa(size))
		}
		b.WriteString(strconv.Itoa(size) + rest)
	}
	return b.Bytes()
}

func padded(b []byte) []byte { return append(b, make([]byte, -len(b)&(tarBlock-1))...) }

// block is a header with its checksum. What does not fit is in the records.
func block(name string, kind byte, mode, size int64) []byte {
	b := make([]byte, tarBlock)
	copy(b[0:100], name)
	const largest = 1<<33 - 1
	copy(b[100:], fmt.Sprintf("%07o\x00%07o\x00%07o\x00%011o\x00%011o\x00", mode&0o7777, 0, 0, min(size, largest), 0))
	copy(b[148:156], "        ")
	b[156] = kind
	copy(b[257:], "ustar\x0000")
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	copy(b[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

// IsSparse says whether the archive says of a file that it has holes.
func IsSparse(hdr *tar.Header) bool {
	if hdr.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range hdr.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// mapOf is the map of a sparse file in the form that sparse writes; ok is false in
// the other forms, whose map lies in the content.
func mapOf(hdr *tar.Header) (parts []segment, ok bool) {
	written, ok := hdr.PAXRecords["GNU.sparse.map"]
	numbers := strings.Split(written, ",")
	if !ok || len(numbers)%2 != 0 || hdr.PAXRecords["GNU.sparse.major"] != "" {
		return nil, false
	}
	for pair := range slices.Chunk(numbers, 2) {
		offset, err1 := strconv.ParseInt(pair[0], 10, 64)
		length, err2 := strconv.ParseInt(pair[1], 10, 64)
		if err1 != nil || err2 != nil || offset < 0 || length < 0 || offset > hdr.Size-length {
			return nil, false
		}
		parts = append(parts, segment{offset, length})
	}
	return parts, true
}

// HasLongHoles says whether a file is sparse in a form of which every byte has to be
// read, holes included. Packer writes none.
func HasLongHoles(hdr *tar.Header) bool {
	_, mapped := mapOf(hdr)
	return IsSparse(hdr) && !mapped
}

// Holes writes to a new file and leaves out what is zero. Its caller calls End.
type Holes struct {
	f  *os.File
	at int64
}

// NewHoles writes to f from its beginning.
func NewHoles(f *os.File) *Holes { return &Holes{f: f} }

func (h *Holes) Write(b []byte) (int, error) {
	var zero [hole]byte
	for done := 0; done < len(b); {
		n := min(hole, len(b)-done)
		part := b[done : done+n]
		if !bytes.Equal(part, zero[:n]) {
			if _, err := h.f.WriteAt(part, h.at); err != nil {
				return done, err
			}
		}
		done += n
		h.at += int64(n)
	}
	return len(b), nil
}

// End makes the file as long as what was written, of which the end may be a hole.
func (h *Holes) End() error { return h.f.Truncate(h.at) }
