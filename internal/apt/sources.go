// Package apt is a private apt root: it downloads and verifies packages from
// Debian's archive, or Ubuntu's, without root and without touching the host's lists. It does
// not install anything and knows nothing of what is in a package.
package apt

// Distributions whose packages a Root gets.
const (
	Debian = "debian"
	Ubuntu = "ubuntu"
)

// Suite is the Debian release that kernels and images come from.
const Suite = "trixie"

// What a host that says nothing else gets.
const (
	DefaultMirror   = "http://deb.debian.org/debian"
	DefaultSecurity = "http://deb.debian.org/debian-security"
	DefaultKeyring  = "/usr/share/keyrings/debian-archive-keyring.gpg"
)

// What a host that says nothing else gets for Ubuntu.
const (
	ubuntuMirror   = "http://archive.ubuntu.com/ubuntu"
	ubuntuSecurity = "http://security.ubuntu.com/ubuntu"
	ubuntuKeyring  = "/usr/share/keyrings/ubuntu-archive-keyring.gpg"
)

// Sources is where packages come from and who must have signed them.
type Sources struct {
	Mirror   string // URI of the archive
	Security string // URI of the security archive
	Proxy    string // "" for none
	Keyring  string // path of the keyring that Release files are checked with

	KeyringPackage string // the package of a host that has it
}
