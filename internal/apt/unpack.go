package apt

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
)

// Walk calls visit for each entry of a .deb's files, in order, with a reader of
// its content; names are as in the archive and unchecked. It stops at visit's
// first error and returns it. Nothing is written and no maintainer script runs.
func Walk(ctx context.Context, deb string, visit func(*tar.Header, io.Reader) error) error {
	var visitErr error
	_, err := run(ctx, command{
		argv: []string{"dpkg-deb", "--fsys-tarfile", deb},
		stdout: func(out io.Reader) error {
			archive := tar.NewReader(out)
			for {
				h, err := archive.Next()
				if errors.Is(err, io.EOF) {
					_, err = io.Copy(io.Discard, out)
					return err
				}
				if err != nil {
					return fmt.Errorf("read the files of %s: %w", deb, err)
				}
				if visitErr = visit(h, archive); visitErr != nil {
					return visitErr
				}
			}
		},
	})
	if visitErr != nil {
		return visitErr
	}
	return err
}
