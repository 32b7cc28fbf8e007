package banger

import "strings"

// CatalogEntry is an image that can be had by a name of its own.
type CatalogEntry struct {
	Name        string   `json:"name"`
	Description string   `json:"description"`
	Source      string   `json:"source"`             // oci:REFERENCE, or debian:SUITE
	Packages    []string `json:"packages,omitempty"` // of a Debian, beside those that it has anyway
	Kernel      string   `json:"kernel,omitempty"`   // of VMs that name none; "": the default one
}

// CatalogImage is an entry, and the image that its name stands for if it is here.
type CatalogImage struct {
	CatalogEntry
	Image *Image `json:"image"`
}

// The beginnings of a source.
const (
	sourceOCI    = "oci:"
	sourceDebian = "debian:"
)

// Reference is what the source names in a registry.
func (e CatalogEntry) Reference() (ref string, ok bool) {
	return strings.CutPrefix(e.Source, sourceOCI)
}

// Suite is the release of Debian that the source names.
func (e CatalogEntry) Suite() (suite string, ok bool) {
	return strings.CutPrefix(e.Source, sourceDebian)
}

// IsLocalName says whether an image or a kernel can have this name here. None is a
// part of a path, or has an '@' or ':', as references and digests have.
func IsLocalName(name string) bool {
	return len(name) <= 128 && begins(name, letters+digits) && only(name, letters+digits+"._-")
}

// isSuite says whether a release of Debian can have this name.
func isSuite(name string) bool {
	return len(name) <= 64 && begins(name, letters) && only(name, letters+digits+"-")
}

// ValidateImageName is IsLocalName, for people.
func ValidateImageName(name string) error { return validateLocalName("an image", name) }

// ValidateKernelName is ValidateImageName for kernels.
func ValidateKernelName(name string) error { return validateLocalName("a kernel", name) }

func validateLocalName(what, name string) error {
	if IsLocalName(name) {
		return nil
	}
	return Errorf(KindInvalid, "%q cannot be %s's name: use 1 to 128 of a-z, 0-9, '.', '_' and '-', beginning with a letter or a digit", name, what)
}

// ValidateSource says what is wrong with the source of an entry. Whether there is
// such an image, a pull finds out.
func ValidateSource(source string) error {
	e := CatalogEntry{Source: source}
	if ref, ok := e.Reference(); ok && ref != "" && len(ref) <= 4096 && !strings.ContainsFunc(ref, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return nil
	}
	if suite, ok := e.Suite(); ok && isSuite(suite) {
		return nil
	}
	return Errorf(KindInvalid, "%q must be oci: and a reference, such as oci:alpine:3, or debian: and a release, such as debian:trixie", source)
}

// ValidatePackage says whether a package of Debian's can have this name.
func ValidatePackage(name string) error {
	if n := len(name); n >= 2 && n <= 128 && begins(name, letters+digits) && only(name, letters+digits+"+.-") {
		return nil
	}
	return Errorf(KindInvalid, "%q is no name of a package", name)
}
