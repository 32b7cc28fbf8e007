package banger

import (
	"strings"
	"testing"
)

func TestNamesOfACatalog(t *testing.T) {
	image := func(s string) bool { return IsLocalName(s) }
	source := func(s string) bool { return ValidateSource(s) == nil }
	pkg := func(s string) bool { return ValidatePackage(s) == nil }
	for _, c := range []struct {
		what      string
		valid     func(string) bool
		good, bad []string
	}{
		{"image name", image,
			[]string{"a", "9", "mine_1.2-x", strings.Repeat("a", 128)},
			[]string{"", ".", "-a", "_a", "A", "a/b", "a:b", "a@b", "a\n", "ä", strings.Repeat("a", 129)}},
		{"source", source,
			[]string{"oci:alpine:3", "debian:trixie", "debian:bookworm-backports"},
			[]string{"", "alpine", "oci:", "oci:a b", "debian:", "debian:-x", "debian:Trixie", "debian:9", "debian:../x", "debian:" + strings.Repeat("a", 65)}},
		{"package", pkg,
			[]string{"gcc", "g++", "libc6", "0ad", "a.b-c"},
			[]string{"", "a", "-y", "A1", "a b", "a/b", "a=1", strings.Repeat("a", 129)}},
	} {
		for _, s := range c.good {
			if !c.valid(s) {
				t.Errorf("%s %q is refused", c.what, s)
			}
		}
		for _, s := range c.bad {
			if c.valid(s) {
				t.Errorf("%s %q is taken", c.what, s)
			}
		}
	}
}
