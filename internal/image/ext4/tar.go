package ext4

import (
	"context"
	"errors"
	"io"
	"os"

	"banger.dev/banger"
	"banger.dev/banger/internal/image/layer"
)

// FromTar makes a file system of opts.Size of an uncompressed tar, which it
// reads once, to its end. All that a tar says of files is kept. A member that
// would land outside the root is refused. The reader must end when ctx does.
// path is there whole (mode 0644) or not at all. It gives what is in it.
func FromTar(ctx context.Context, path string, r io.Reader, limits layer.Limits, opts Options) (*layer.Tree, error) {
	return fill(ctx, path, limits, opts, func(w *writer, t *layer.Tree) error {
		var dropped error
		t.Drop = func(n *layer.Node) { dropped = errors.Join(dropped, w.drop(n)) }
		err := t.Read(r, w.content)
		if err == nil && t.Root.Len() == 0 {
			err = banger.Errorf(banger.KindInvalid, "the tar archive is empty")
		}
		return errors.Join(err, dropped)
	})
}

// Layer is one of the tars that make up a root, the lowest first.
type Layer interface {
	// Open gives the tar, uncompressed: once for its headers, and if
	// anything of it is visible once more.
	Open() (io.ReadCloser, error)
}

// FromLayers is FromTar for layers that hide one another: it reads all headers
// first, and then writes each file that is visible once, in their order.
func FromLayers(ctx context.Context, path string, layers []Layer, limits layer.Limits, opts Options) (*layer.Tree, error) {
	return fill(ctx, path, limits, opts, func(w *writer, t *layer.Tree) error {
		for _, l := range layers {
			if err := read(l, func(r io.Reader) error { return t.Read(r, nil) }); err != nil {
				return err
			}
		}
		contents := t.Contents()
		for _, l := range layers {
			if !contents.Needs() {
				contents.Skip()
				continue
			}
			if err := read(l, func(r io.Reader) error { return contents.Read(r, w.content) }); err != nil {
				return err
			}
		}
		return nil
	})
}

func read(l Layer, use func(io.Reader) error) error {
	r, err := l.Open()
	if err != nil {
		return err
	}
	return errors.Join(use(r), r.Close())
}

// fill makes an empty file system, has contents write those of a tree, and
// writes the tree.
func fill(ctx context.Context, path string, limits layer.Limits, opts Options, contents func(*writer, *layer.Tree) error) (*layer.Tree, error) {
	tree := layer.New(limits)
	err := makeFile(ctx, path, opts, func(f *os.File) error {
		w, err := newWriter(f)
		if err != nil {
			return err
		}
		if err := contents(w, tree); err != nil {
			return err
		}
		return w.finish(tree)
	})
	return tree, err
}
