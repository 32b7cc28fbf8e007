// Package debian bootstraps images: a small Debian with systemd, git and what a
// repository needs, and further packages, as a tar. mmdebstrap and apt do the work and
// check the archive's signatures. It does not know where images are kept.
package debian

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"banger.dev/banger"
	"banger.dev/banger/internal/apt"
	"banger.dev/banger/internal/paths"
	"banger.dev/banger/internal/userns"
)

// Stable is Debian's release of that name, and the default image's.
const Stable = "trixie"

// format counts what changes the image but is in no other part of the key.
const format = "1"

// Packages are those of every image beside mmdebstrap's minbase. kmod is what the kernel calls
// to load a module from the modules disk.
func Packages() []string {
	return []string{"systemd", "systemd-sysv", "dbus", "kmod", "git", "rsync", "ca-certificates", "iproute2", "procps", "less"}
}

// Builder makes an image from an archive.
type Builder struct {
	Suite string
	More  []string // packages beside the ones that every image has
	// Sources says which archive, each time that a key or an image is asked for.
	Sources func() apt.Sources
}

// Key names what Build would make: suite, mirror, packages and format.
func (b Builder) Key() string {
	s := b.Sources()
	return paths.CacheKey(append([]string{format, b.Suite, runtime.GOARCH, strings.TrimRight(s.Mirror, "/"), b.hooks(s)}, b.packages()...)...)
}

func (b Builder) packages() []string { return append(Packages(), b.More...) }

// Source says for people what Build makes.
func (b Builder) Source() string { return "Debian " + b.Suite }

// Build writes the image's root as a tar to w. tmp is an existing directory
// for some 700 MiB, on a file system that allows programs; nobody but the
// caller need be able to enter it.
func (b Builder) Build(ctx context.Context, tmp string, w io.Writer, report banger.ProgressFunc) error {
	sources := b.Sources()
	program, err := userns.Find("mmdebstrap", "mmdebstrap")
	if err != nil {
		return err
	}
	cmd := userns.Command{
		Argv:   append([]string{program}, b.arguments(sources)...),
		Env:    environ(sources, tmp),
		Stdout: w,
		Stderr: &stages{suite: b.Suite, report: report},
		Own:    true,
	}
	err = cmd.Run(ctx)
	if err != nil && strings.Contains(err.Error(), "No space left on device") {
		return banger.Errorf(banger.KindUnavailable, "bootstrap Debian %s in %s: %w", b.Suite, tmp, unix.ENOSPC)
	}
	if err == nil || ctx.Err() != nil || banger.KindOf(err) != banger.KindInternal {
		return err
	}
	return banger.Errorf(banger.KindUnavailable, "bootstrap Debian %s from %s: %w", b.Suite, sources.Mirror, err).
		WithNext("curl -fsSI %s/dists/%s/InRelease", strings.TrimRight(sources.Mirror, "/"), b.Suite)
}

func environ(s apt.Sources, tmp string) []string {
	// Of a build that is cut off nothing is used, so dpkg need not wait for the disk.
	env := append(userns.Environ(), "TMPDIR="+tmp, "DEBIAN_FRONTEND=noninteractive", "DPKG_FORCE=unsafe-io")
	if s.Proxy != "" {
		// In the environment it leaves no trace in the image, where the
		// host's proxy might not answer.
		env = append(env, "http_proxy="+s.Proxy, "https_proxy="+s.Proxy)
	}
	return env
}

// arguments is mmdebstrap's command line. Its mode is root in either case: we
// are root, or the root of a user namespace of the caller's ids. In that one
// the caller's own directories, closed to others, can be entered, which
// mmdebstrap's mode unshare cannot.
func (b Builder) arguments(s apt.Sources) []string {
	args := []string{"--mode=root", "--variant=minbase", "--format=tar", "--architectures=" + runtime.GOARCH,
		"--include=" + strings.Join(b.packages(), ","), "--skip=chroot/mount/sys"}
	if s.Keyring != "" {
		args = append(args, "--keyring="+s.Keyring)
	}
	for _, path := range []string{"man", "info", "locale", "doc", "lintian", "linda", "groff"} {
		args = append(args, "--dpkgopt=path-exclude=/usr/share/"+path+"/*")
	}
	args = append(args, "--dpkgopt=path-include=/usr/share/doc/*/copyright", "--dpkgopt=path-include=/usr/share/locale/locale.alias",
		"--customize-hook="+b.hooks(s))
	return append(append(args, b.Suite, "-"), b.lines(s, s.Keyring)...)
}

// lines are sources.list(5) entries.
func (b Builder) lines(s apt.Sources, keyring string) []string {
	option := ""
	if keyring != "" {
		option = "[signed-by=" + keyring + "] "
	}
	mirror, security := strings.TrimRight(s.Mirror, "/"), strings.TrimRight(s.Security, "/")
	list := []string{fmt.Sprintf("deb %s%s %s main", option, mirror, b.Suite)}
	if b.Suite == "sid" || b.Suite == "unstable" {
		return list // it has no updates but itself
	}
	list = append(list, fmt.Sprintf("deb %s%s %s-updates main", option, mirror, b.Suite))
	if security != "" {
		list = append(list, fmt.Sprintf("deb %s%s %s-security main", option, security, b.Suite))
	}
	return list
}

// guestKeyring is where debian-archive-keyring has its keys.
const guestKeyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// guestSources is what the guest's apt asks: the same archive, unless only the
// host can reach that.
func guestSources(s apt.Sources) apt.Sources {
	return apt.Sources{
		Mirror:   reachable(s.Mirror, "http://deb.debian.org/debian"),
		Security: reachable(s.Security, "http://deb.debian.org/debian-security"),
	}
}

func reachable(uri, public string) string {
	u, err := url.Parse(uri)
	if err != nil || u.User != nil || (u.Scheme != "http" && u.Scheme != "https") {
		return public
	}
	if host := u.Hostname(); host == "" || host == "localhost" || host == "::1" || strings.HasPrefix(host, "127.") {
		return public
	}
	return uri
}
