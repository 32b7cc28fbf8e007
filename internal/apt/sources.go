// Package apt is a private apt root: it downloads and verifies packages from
// Debian's archive without root and without touching the host's lists. It does
// not install anything and knows nothing of what is in a package.
package apt

// Suite is the Debian release that kernels and images come from.
const Suite = "trixie"

// What a host that says nothing else gets.
const (
	DefaultMirror   = "http://deb.debian.org/debian"
	DefaultSecurity = "http://deb.debian.org/debian-security"
	DefaultKeyring  = "/usr/share/keyrings/debian-archive-keyring.gpg"
)

// Sources is where packages come from and who must have signed them.
type Sources struct {
	Mirror   string // URI of the archive
	Security string // URI of the security archive
	Proxy    string // "" for none
	Keyring  string // path of the keyring that Release files are checked with
}
