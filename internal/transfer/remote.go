package transfer

import (
	"context"
	"path"

	"banger.dev/banger"
	"banger.dev/banger/internal/agent/wire"
)

// guestSource is what is to be copied from a guest.
type guestSource struct {
	item
	path string
	size int64 // 0 if only the packing will tell
}

func (s guestSource) request(as string) wire.ReadFiles {
	return wire.ReadFiles{Place: place(s.path), As: wire.Text(as)}
}

// inGuest makes a path one from the guest's root, as docker does.
func inGuest(name string) string {
	if path.IsAbs(name) {
		return name
	}
	return "/" + name
}

func (c Copy) guestSource(ctx context.Context, src string) (guestSource, error) {
	p := parse(inGuest(src))
	shown := c.Guest.Name + ":" + p.clean
	stat, err := c.Guest.Stat(ctx, wire.StatFile{Place: place(p.clean), Follow: c.Follow || p.slash})
	switch {
	case err != nil:
		return guestSource{}, err
	case !stat.Exists:
		return guestSource{}, banger.Errorf(banger.KindNotFound, "%s is not there", shown)
	case p.slash && stat.Kind != wire.KindDir:
		return guestSource{}, banger.Errorf(banger.KindConflict, "%s is no directory", shown)
	}
	from := guestSource{path: p.clean, item: item{base: path.Base(p.clean), dir: stat.Kind == wire.KindDir}}
	if c.Follow || p.slash {
		from.path = string(stat.Path)
	}
	if stat.Kind == wire.KindFile {
		from.size = stat.Size
	}
	if p.contents || p.clean == "/" {
		from.base = "."
	}
	return from, nil
}

func (c Copy) guestTarget(ctx context.Context, what item, dst string) (target, error) {
	p := parse(inGuest(dst))
	stat, err := c.Guest.Stat(ctx, wire.StatFile{Place: place(p.clean), Follow: true})
	if err != nil {
		return target{}, err
	}
	at := existing{path: string(stat.Path), exists: stat.Exists, dir: stat.Kind == wire.KindDir, parent: stat.Parent}
	return decide(what, p, at, c.Guest.Name+":"+p.clean)
}
