package tail

import (
	"context"
	"errors"
	"io"
)

// Last is the place behind which are the last n of the lines that are there and
// wanted, and what is between them; the zero Place if there are no more. Being a
// place, it is found again when the files have grown and been rotated since, or
// all that is before it is gone.
func Last(ctx context.Context, paths []string, n int, wanted func(line []byte) bool) (Place, error) {
	r, err := Open(ctx, paths, nil)
	if err != nil {
		return Place{}, err
	}
	defer func() { _ = r.Close() }()
	var before Place
	var begins []Place // of the last lines that are wanted
	for lines := NewLines(r); ; {
		line, err := lines.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return Place{}, err
		}
		if wanted(line.Text) {
			begins = append(begins, before)
			begins = begins[max(0, len(begins)-n-1):]
		}
		before = line.Behind
	}
	switch {
	case n == 0:
		return before, nil
	case len(begins) <= n:
		return Place{}, nil
	}
	return begins[1], nil
}
