package image

import (
	"context"
	"fmt"
	"io"

	"banger.dev/banger"
	"banger.dev/banger/internal/image/oci"
	"banger.dev/banger/internal/until"
)

// observed is a layer whose reading is reported, and ends with a context. Its tar
// is compared with its digest at the first reading, which is to its end.
type observed struct {
	oci.Stored
	ctx    context.Context
	report banger.ProgressFunc
	number int
	of     int
	read   bool
}

// Open is ext4.Layer's.
func (o *observed) Open() (io.ReadCloser, error) {
	stored := o.Stored
	if o.read {
		stored.DiffID = ""
	}
	o.read = true
	r, err := stored.Open()
	if err != nil {
		return nil, err
	}
	message := fmt.Sprintf("unpack layer %d of %d", o.number, o.of)
	return &reading{Reader: until.Done(o.ctx, r), Closer: r, report: o.report, message: message}, nil
}

// reading reports how much of something has been read.
type reading struct {
	io.Reader
	io.Closer
	report  banger.ProgressFunc
	message string
	done    int64
	said    int64
}

func (r *reading) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.done += int64(n)
	if r.done-r.said >= reportEvery {
		r.said = r.done
		r.report.Report(banger.Progress{Stage: stage, Message: r.message, Done: r.done, Bytes: true})
	}
	return n, err
}
