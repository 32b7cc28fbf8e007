package image

import (
	"golang.org/x/sys/unix"

	"banger.dev/banger/internal/image/layer"
)

// candidates are where an image's init can be, the first found wins.
var candidates = [...]string{"/sbin/init", "/usr/sbin/init", "/lib/systemd/systemd", "/usr/lib/systemd/systemd", "/bin/init"}

// initOf is the path of the first candidate that leads to a program, or "".
func initOf(root *layer.Tree) string {
	for _, c := range candidates {
		if n := root.Lookup(c); n != nil && n.Is(unix.S_IFREG) && n.Mode&0o111 != 0 {
			return c
		}
	}
	return ""
}
