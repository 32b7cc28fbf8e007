package tail

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// Place is how far followed files have been read. It outlives the Reader and
// its process: a file is known again by its first line, whatever its name is by
// then. So it is for files that only grow and whose first lines differ, as lines
// with a time stamp do. The zero Place is before everything.
type Place struct {
	File   string // names the file, see nameOf
	Offset int64  // in it
}

// String is p as ParsePlace reads it; "" for the zero Place.
func (p Place) String() string {
	if p.File == "" {
		return ""
	}
	return p.File + "+" + strconv.FormatInt(p.Offset, 10)
}

// ParsePlace reads what Place.String has written.
func ParsePlace(s string) (Place, error) {
	if s == "" {
		return Place{}, nil
	}
	file, digits, _ := strings.Cut(s, "+")
	offset, err := strconv.ParseInt(digits, 10, 64)
	if file == "" || err != nil || offset < 0 {
		return Place{}, fmt.Errorf("%.100q is no place in a log", s)
	}
	return Place{file, offset}, nil
}

// nameLine bounds what of a first line counts.
const nameLine = 256

// nameOf names a file by its first line; whole says that the name will stay.
func nameOf(f *os.File) (name string, whole bool, err error) {
	buf := make([]byte, nameLine)
	n, err := f.ReadAt(buf, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", false, err
	}
	line, _, ended := bytes.Cut(buf[:n], []byte{'\n'})
	sum := sha256.Sum256(line)
	return hex.EncodeToString(sum[:8]), ended || n == nameLine, nil
}

// Place is behind what Read has given.
func (r *Reader) Place() Place {
	if len(r.files) == 0 || r.at == 0 {
		return Place{}
	}
	name := r.name
	if name == "" {
		var whole bool
		var err error
		if name, whole, err = nameOf(r.files[0]); err != nil {
			return Place{}
		}
		if whole {
			r.name = name
		}
	}
	return Place{name, r.at}
}

// Skip goes on behind a place. If what is there is gone it skips nothing, and
// found is false. Nothing must have been read before.
func (r *Reader) Skip(to Place) (found bool, err error) {
	if to == (Place{}) {
		return true, nil
	}
	for i, f := range r.files {
		info, err := f.Stat()
		if err != nil {
			return false, err
		}
		name, _, err := nameOf(f)
		if err != nil {
			return false, err
		}
		if name != to.File || info.Size() < to.Offset {
			continue
		}
		for _, older := range r.files[:i] {
			_ = older.Close()
		}
		r.files, r.at = r.files[i:], to.Offset
		_, err = f.Seek(to.Offset, io.SeekStart)
		return true, err
	}
	return false, nil
}
