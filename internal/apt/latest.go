package apt

import (
	"context"
	"encoding/hex"
	"errors"
	"path"
	"regexp"
	"strconv"
	"strings"

	"banger.dev/banger"
)

// Package is one version of one package, as the signed lists describe it.
type Package struct {
	Name     string
	Version  string
	SHA256   string       // of the .deb, hex
	Size     banger.Bytes // of the .deb
	Filename string       // path in the archive
	Depends  []string     // names alone; of alternatives, the first
}

// nameRE is what Debian allows (policy 5.6.1); it also keeps a name from being
// taken for an option or a path.
var nameRE = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+$`)

// Latest is the newest version of a package in the lists that Update fetched.
// A package that is not in them is KindNotFound. It needs no network.
func (r *Root) Latest(ctx context.Context, name string) (Package, error) {
	if !nameRE.MatchString(name) {
		return Package{}, banger.Errorf(banger.KindInvalid, "%q cannot be a package's name", name)
	}
	lock, err := r.lock(ctx, nil)
	if err != nil {
		return Package{}, err
	}
	defer func() { _ = lock.Close() }()
	out, err := r.run(ctx, lock, command{argv: []string{"apt-cache", "show", "--no-all-versions", name}})
	var failed *commandError
	if errors.As(err, &failed) && containsAny(failed.stderr, "No packages found", "Unable to locate") {
		return Package{}, banger.Errorf(banger.KindNotFound, "there is no package %s in %s at %s", name, r.suite, r.sources.Mirror)
	}
	if err != nil {
		return Package{}, err
	}
	return parsePackage(name, out)
}

// parsePackage reads the stanza of name in apt-cache's output.
func parsePackage(name string, out []byte) (Package, error) {
	for _, s := range parseStanzas(out) {
		if s["package"] != name {
			continue // a package that provides it
		}
		size, sizeErr := strconv.ParseInt(s["size"], 10, 64)
		sum, sumErr := hex.DecodeString(s["sha256"])
		if sizeErr != nil || size <= 0 || sumErr != nil || len(sum) != 32 || s["version"] == "" {
			return Package{}, banger.Errorf(banger.KindUnavailable, "the package list says no size, version or sha256 of %s", name)
		}
		return Package{
			Name: name, Version: s["version"], SHA256: strings.ToLower(s["sha256"]), Size: banger.Bytes(size),
			Filename: s["filename"], Depends: dependencies(s["depends"]),
		}, nil
	}
	return Package{}, banger.Errorf(banger.KindNotFound, "there is no package %s in the package lists", name)
}

// dependencies takes the names out of "a (= 1) | b, c:any".
func dependencies(field string) []string {
	var names []string
	for dep := range strings.SplitSeq(field, ",") {
		first, _, _ := strings.Cut(dep, "|")
		first, _, _ = strings.Cut(first, "(")
		first, _, _ = strings.Cut(strings.TrimSpace(first), ":")
		if first != "" {
			names = append(names, first)
		}
	}
	return names
}

// file is what p is called in the archives: apt's own name, with the characters
// that a file name cannot have (or that mean something) replaced.
func (p Package) file() string {
	clean := func(s string) string {
		return strings.Map(func(c rune) rune {
			if c <= ' ' || c == '/' || c == '%' || c >= 0x7f {
				return '_'
			}
			return c
		}, s)
	}
	return path.Base(clean(p.Name) + "_" + clean(p.Version) + "_" + p.SHA256[:12] + ".deb")
}
