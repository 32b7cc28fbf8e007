package kernel

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// walkDeb calls visit for each entry of a Debian package's files, in order, with
// a reader of its content; names are as in the archive and unchecked. It stops at
// visit's first error and returns it. Nothing of the package is run, and no dpkg
// is needed: hosts that have none can import packages too.
func walkDeb(deb io.Reader, visit func(*tar.Header, io.Reader) error) error {
	magic := make([]byte, len(debMagic))
	if _, err := io.ReadFull(deb, magic); err != nil || string(magic) != debMagic {
		return errors.New("it is no Debian package")
	}
	for {
		name, size, err := nextMember(deb)
		if errors.Is(err, io.EOF) {
			return errors.New("it is no Debian package: it has no data.tar")
		}
		if err != nil {
			return err
		}
		if strings.HasPrefix(name, "data.tar") {
			return walkData(&io.LimitedReader{R: deb, N: size}, visit)
		}
		if n, err := io.Copy(io.Discard, io.LimitReader(deb, size+size%2)); err != nil || n < size {
			return errors.Join(errCut, err)
		}
	}
}

// walkData is walkTar for the member that has the files, which has to be whole.
func walkData(content *io.LimitedReader, visit func(*tar.Header, io.Reader) error) error {
	if err := walkTar(bufio.NewReader(content), visit); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, content); err != nil || content.N > 0 {
		return errors.Join(errCut, err)
	}
	return nil
}

const debMagic = "!<arch>\n" // of any ar archive

var errCut = errors.New("it is cut off")

// nextMember reads the header of a member of an ar archive: name, four numbers
// that are of no interest, size, and two bytes.
func nextMember(r io.Reader) (name string, size int64, err error) {
	header := make([]byte, 60)
	switch _, err := io.ReadFull(r, header); {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "", 0, errCut
	case err != nil:
		return "", 0, err
	}
	unsigned, err := strconv.ParseUint(strings.TrimRight(string(header[48:58]), " "), 10, 63)
	if err != nil || string(header[58:]) != "`\n" {
		return "", 0, errors.New("it is no Debian package: the header of a member is damaged")
	}
	return strings.TrimRight(string(header[:16]), "/ "), int64(unsigned), nil
}

// walkTar is walkDeb for a tar, which may be compressed.
func walkTar(r *bufio.Reader, visit func(*tar.Header, io.Reader) error) error {
	plain, err := plainTar(r)
	if err != nil {
		return err
	}
	defer func() { _ = plain.Close() }()
	all := &capped{plain, maxPackageTar}
	archive := tar.NewReader(all)
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			_, err = io.Copy(io.Discard, all) // behind the last member stands the checksum
			return err
		}
		if err != nil {
			return err
		}
		if err := visit(h, archive); err != nil {
			return err
		}
	}
}

// plainTar decompresses what does not begin as a tar does.
func plainTar(r *bufio.Reader) (io.ReadCloser, error) {
	head, err := r.Peek(262)
	if err == nil && string(head[257:262]) == "ustar" {
		return io.NopCloser(r), nil
	}
	return decompressor(detectCompression(head), r)
}

// capped is a reader that fails where there is more than left.
type capped struct {
	r    io.Reader
	left int64
}

func (c *capped) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if c.left -= int64(n); c.left < 0 {
		return 0, fmt.Errorf("it unpacks to more than %d bytes", int64(maxPackageBytes))
	}
	return n, err
}
