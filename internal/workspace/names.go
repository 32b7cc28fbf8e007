package workspace

import (
	"path/filepath"
	"strings"

	"banger.dev/banger"
)

// judge says whether a guest's name for a file may be one in a working tree. A
// part that some file system takes for .git would put files into the host's
// repository.
func judge(name string) error {
	bad := name == "" || len(name) > 4096 || !filepath.IsLocal(name) || filepath.Clean(name) != name || strings.ContainsRune(name, 0)
	for part := range strings.SplitSeq(name, "/") {
		bad = bad || isDotGit(part)
	}
	if bad {
		return banger.Errorf(banger.KindUnavailable, "the guest names a file %.200q, which no working tree may have", name)
	}
	return nil
}

// isDotGit says whether a name is .git to some file system: in capitals, with
// dots or blanks behind it or a stream as on Windows, by its short name there,
// or with letters that macOS does not see.
func isDotGit(part string) bool {
	part = strings.Map(func(r rune) rune {
		if invisible(r) {
			return -1
		}
		return r
	}, part)
	part = strings.ToLower(part)
	part, _, _ = strings.Cut(part, ":")
	part, _, _ = strings.Cut(part, `\`)
	part = strings.TrimRight(part, ". ")
	return part == ".git" || part == "git~1"
}

// invisible are the letters that HFS+ leaves out when it compares names.
func invisible(r rune) bool {
	return r >= 0x200c && r <= 0x200f || r >= 0x202a && r <= 0x202e || r >= 0x206a && r <= 0x206f || r == 0xfeff
}
