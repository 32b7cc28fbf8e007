package kernel

import (
	"regexp"
	"strings"

	"banger.dev/banger"
	"banger.dev/banger/internal/apt"
)

// Release is a release of a distribution, whose kernel for VMs can be pulled.
type Release struct{ Distribution, Suite string }

// DefaultRelease is that of the default kernel.
func DefaultRelease() Release { return Release{apt.Debian, apt.Suite} }

// distribution is what is to be known of one whose kernels are pulled.
type distribution struct {
	name  string
	suite string // without another
	meta  string // the package that depends on the newest kernel made for VMs
}

func distributions() []distribution {
	return []distribution{
		{apt.Debian, apt.Suite, "linux-image-cloud-amd64"},
		{apt.Ubuntu, "noble", "linux-image-virtual"},
	}
}

var suiteRE = regexp.MustCompile(`^[a-z][a-z0-9]{0,31}$`)

// parseRelease reads debian, debian:trixie or debian-trixie.
func parseRelease(text string) (Release, bool) {
	for _, d := range distributions() {
		rest, ok := strings.CutPrefix(text, d.name)
		switch {
		case !ok:
		case rest == "":
			return Release{d.name, d.suite}, true
		case (rest[0] == ':' || rest[0] == '-') && suiteRE.MatchString(rest[1:]):
			return Release{d.name, rest[1:]}, true
		}
	}
	return Release{}, false
}

// isReleaseName says whether a name is one of a release's, or looks like one.
func isReleaseName(name string) bool {
	for _, d := range distributions() {
		if name == d.name || strings.HasPrefix(name, d.name+"-") {
			return true
		}
	}
	return false
}

// name is what a release's kernel is called.
func (r Release) name() string { return r.Distribution + "-" + r.Suite }

// meta is the package that depends on the release's newest kernel.
func (r Release) meta() string {
	for _, d := range distributions() {
		if d.name == r.Distribution {
			return d.meta
		}
	}
	return ""
}

func unknownRelease(text string) error {
	return banger.Errorf(banger.KindInvalid, "there is no kernel %q to pull: it must be debian or ubuntu, or one with a suite, such as debian:bookworm", text).
		WithNext("banger kernel pull --help")
}
