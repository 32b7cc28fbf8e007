// Package until ends what goes on with a context. It is for readers; what waits
// for something else has a select.
package until

import (
	"context"
	"io"
)

// Done is r until ctx is done: then a Read is ctx's error, also one during which
// that happens, if r lets go of it with any error. r itself is not touched.
func Done(ctx context.Context, r io.Reader) io.Reader { return &reader{ctx, r} }

type reader struct {
	ctx context.Context
	r   io.Reader
}

func (u *reader) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := u.r.Read(p)
	if err != nil && u.ctx.Err() != nil {
		err = u.ctx.Err()
	}
	return n, err
}
