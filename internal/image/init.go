package image

import (
	"archive/tar"
	"path"
	"strings"
)

// candidates are where an image's init can be, the first found wins.
var candidates = [...]string{"/sbin/init", "/usr/sbin/init", "/lib/systemd/systemd", "/usr/lib/systemd/systemd", "/bin/init"}

const (
	maxEntries = 500_000 // of inits; the memory that a hostile tar can take
	maxName    = 1024    // bytes of a name or link that is remembered
	maxLinks   = 40      // as the kernel's
)

// inits finds the init of a root while its tar passes. It remembers symbolic
// links and programs, by clean absolute path.
type inits struct {
	links    map[string]string
	programs map[string]bool
}

func (i *inits) visit(h *tar.Header) {
	if i.links == nil {
		i.links, i.programs = map[string]string{}, map[string]bool{}
	}
	if len(h.Name)+len(h.Linkname) > maxName || len(i.links)+len(i.programs) >= maxEntries {
		return
	}
	name := path.Clean("/" + h.Name)
	delete(i.links, name)
	delete(i.programs, name)
	switch {
	case h.Typeflag == tar.TypeSymlink:
		i.links[name] = h.Linkname
	case h.Typeflag == tar.TypeLink && i.programs[path.Clean("/"+h.Linkname)],
		h.Typeflag == tar.TypeReg && h.Mode&0o111 != 0:
		i.programs[name] = true
	}
}

// first is the path of the first candidate that leads to a program, or "".
func (i *inits) first() string {
	for _, c := range candidates {
		if i.programs[i.follow(c)] {
			return c
		}
	}
	return ""
}

// follow is where a path leads after its symbolic links, or "" where they go round.
func (i *inits) follow(name string) string {
	done, rest := "/", strings.Split(name, "/")
	for links := 0; len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		next := path.Join(done, part) // ".." and "" included
		target, ok := i.links[next]
		if !ok {
			done = next
			continue
		}
		if links++; links > maxLinks {
			return ""
		}
		if path.IsAbs(target) {
			done = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return done
}
