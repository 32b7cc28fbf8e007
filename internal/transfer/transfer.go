// Package transfer copies files between the host and a guest by the rules of
// docker cp. It runs in the client. Nothing that a guest sends reaches another
// place than the one that was named: see internal/agent/archive, and check.
//
// It copies once; what is kept in step is none of its business.
package transfer

import (
	"context"
	"io"
	"path"
	"strings"

	"banger.dev/banger"
	"banger.dev/banger/internal/agent/wire"
	"banger.dev/banger/internal/guest"
)

// Copy is one copy.
type Copy struct {
	Guest guest.Files
	// Archive keeps the numbers of owners. Otherwise files belong to whoever
	// copies on the host, and to root in the guest.
	Archive bool
	// Follow copies what a link as the source leads to, and not the link.
	Follow   bool
	Progress banger.ProgressFunc
}

// Done is what a copy has done.
type Done struct {
	Entries int64 `json:"entries"`
	Bytes   int64 `json:"bytes"`
	LeftOut int64 `json:"left_out"` // sockets, and devices and pipes that were not for this side
}

// In copies the host's src to dst in the guest.
func (c Copy) In(ctx context.Context, src, dst string) (Done, error) {
	from, err := c.localSource(src)
	if err != nil {
		return Done{}, err
	}
	defer func() { _ = from.dir.Close() }()
	to, err := c.guestTarget(ctx, from.item, dst)
	if err != nil {
		return Done{}, err
	}
	counter := c.count(from.size)
	var skipped int
	done, err := c.Guest.Write(ctx, wire.WriteFiles{Place: wire.Place{Path: wire.Text(to.dir)}, Keep: c.Archive}, func(w io.Writer) error {
		skipped, err = from.pack(&counted{w: w, counter: counter}, to.name)
		return err
	})
	return Done{Entries: done.Entries, Bytes: done.Bytes, LeftOut: done.LeftOut + int64(skipped)}, err
}

// Out copies the guest's src to dst on the host.
func (c Copy) Out(ctx context.Context, src, dst string) (Done, error) {
	from, err := c.guestSource(ctx, src)
	if err != nil {
		return Done{}, err
	}
	to, err := localTarget(from.item, dst)
	if err != nil {
		return Done{}, err
	}
	body, err := c.Guest.Read(ctx, from.request(to.name))
	if err != nil {
		return Done{}, err
	}
	defer func() { _ = body.Close() }()
	return c.unpack(to, from.item, &countedReader{r: body, counter: c.count(from.size)})
}

// StreamIn unpacks a tar in the directory dst of the guest.
func (c Copy) StreamIn(ctx context.Context, tar io.Reader, dst string) (Done, error) {
	p := parse(dst)
	stat, err := c.Guest.Stat(ctx, wire.StatFile{Place: place(p.clean), Follow: true})
	switch {
	case err != nil:
		return Done{}, err
	case !stat.Exists:
		return Done{}, banger.Errorf(banger.KindNotFound, "%s:%s is not there; a tar is unpacked in a directory that is", c.Guest.Name, p.clean)
	case stat.Kind != wire.KindDir:
		return Done{}, banger.Errorf(banger.KindConflict, "%s:%s is no directory, and a tar is unpacked in one", c.Guest.Name, p.clean)
	}
	done, err := c.Guest.WriteStream(ctx, wire.WriteFiles{Place: place(p.clean), Keep: c.Archive}, &countedReader{r: tar, counter: c.count(0)})
	return Done(done), err
}

// StreamOut writes a tar of the guest's src.
func (c Copy) StreamOut(ctx context.Context, src string, tar io.Writer) error {
	from, err := c.guestSource(ctx, src)
	if err != nil {
		return err
	}
	body, err := c.Guest.Read(ctx, from.request(from.base))
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }()
	_, err = io.Copy(tar, &countedReader{r: body, counter: c.count(from.size)})
	return err
}

func place(name string) wire.Place { return wire.Place{Path: wire.Text(name)} }

// item is what is copied, as far as the rules ask.
type item struct {
	base string // its name; "." stands for what is in it
	dir  bool
}

// target is where an item is to be: name in the directory dir.
type target struct{ dir, name string }

// parsed is a path as somebody has typed it.
type parsed struct {
	clean    string
	slash    bool // it ends as only a directory may
	contents bool // it ends in /. and means what is in the directory
}

func parse(name string) parsed {
	p := parsed{clean: path.Clean(name)}
	p.contents = name == "." || strings.HasSuffix(name, "/.")
	p.slash = p.contents || strings.HasSuffix(name, "/")
	return p
}

// existing is what is at a target, where links have been followed.
type existing struct {
	path   string
	exists bool
	dir    bool
	parent bool // the directory that it is or would be in is there
}

// decide is the rules of docker cp.
func decide(what item, p parsed, at existing, shown string) (target, error) {
	dir, name := path.Split(at.path)
	there := target{dir: path.Clean(dir), name: name}
	switch {
	case at.exists && at.dir:
		return target{dir: at.path, name: what.base}, nil
	case at.exists && what.dir:
		return there, banger.Errorf(banger.KindConflict, "%s is a file, and a directory cannot be copied to it", shown)
	case at.exists && p.slash:
		return there, banger.Errorf(banger.KindConflict, "%s is no directory", shown)
	case at.exists:
		return there, nil
	case !at.parent:
		return there, banger.Errorf(banger.KindNotFound, "the directory that %s would be in is not there", shown)
	case p.slash && !what.dir:
		return there, banger.Errorf(banger.KindNotFound, "the directory %s is not there", shown)
	}
	return there, nil
}
