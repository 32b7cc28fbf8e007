package doctor

import (
	"context"
	"strings"

	"banger.dev/banger"
	"banger.dev/banger/internal/paths"
)

// Report is what doctor has found out. Its JSON form is stable and only grows.
type Report struct {
	OK      bool           `json:"ok"`      // VMs can be made and run, and nothing is left over
	Profile string         `json:"profile"` // how this host runs VMs, for people
	Checks  []banger.Check `json:"checks"`
	Strays  []banger.Stray `json:"strays"`
}

// Judge says whether all is well.
func (r *Report) Judge() {
	r.OK = true
	for _, c := range r.Checks {
		r.OK = r.OK && c.Status != banger.CheckFailed
	}
	for _, s := range r.Strays {
		r.OK = r.OK && s.Fixed
	}
}

// Examiner looks at one host for one home. It starts no daemon and no VM, and
// leaves no file.
type Examiner struct {
	Layout paths.Layout
	Root   string // of the host's file system: "/", or a test's
	UID    int
	Find   func(program string) (string, error)
	// Cached says that image and kernel are in the cache: what makes them is then
	// no condition.
	Cached bool
}

// Examine is every check of the host itself, in the order in which people read
// them, and the profile.
func (e Examiner) Examine(ctx context.Context) (profile string, checks []banger.Check) {
	hypervisor := e.hypervisor()
	checks = []banger.Check{
		hypervisor,
		e.vmm(ctx),
		e.userNamespaces(ctx),
		e.fileSystems(),
		e.builders(),
		e.home(),
		e.sockets(),
		e.space("state", e.Layout.State),
		e.space("cache", e.Layout.Cache),
		e.reflink("state", e.Layout.State),
		e.reflink("cache", e.Layout.Cache),
		e.deviceMapper(),
		e.tun(),
		e.nftables(),
	}
	return e.profile(hypervisor), checks
}

// profile is how VMs run here: of whom, by what, on which disks and network.
func (e Examiner) profile(hypervisor banger.Check) string {
	words := []string{"rootless", "emulated", "qcow2 disks", "user networking"}
	if e.UID == 0 {
		words[0] = "root"
	}
	if hypervisor.Status == banger.CheckOK {
		words[1] = "KVM"
	}
	return strings.Join(words, ", ")
}
