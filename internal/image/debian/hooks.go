package debian

import (
	"slices"
	"strings"

	"banger.dev/banger/internal/apt"
)

// hooks is the shell script that finishes the image; $1 is its root.
func (b Builder) hooks(s apt.Sources) string {
	parts := []string{
		"set -eu",
		identity,
		units,
		"printf '%s\\n' " + quoteAll(b.lines(guestSources(s), guestKeyring)) + ` > "$1/etc/apt/sources.list"`,
		leftovers,
	}
	if slices.Contains(b.More, "docker.io") {
		parts = append(parts, docker)
	}
	return strings.Join(parts, "\n")
}

// docker has dockerd keep images, containers and volumes on the work disk, which
// a reset and another image leave alone. Its own directory of the disk is one of
// those that every VM has; without a work disk it lies on the root.
const docker = `
mkdir -p "$1/etc/docker"
printf '{\n  "data-root": "/home/.docker"\n}\n' > "$1/etc/docker/daemon.json"
`

// identity empties what the host gives each VM. The files stay: they are where
// the agent binds or writes its own.
const identity = `
for f in hostname machine-id resolv.conf; do
	rm -f "$1/etc/$f"; : > "$1/etc/$f"; chmod 644 "$1/etc/$f"
done
rm -f "$1/var/lib/dbus/machine-id" "$1"/etc/ssh/ssh_host_*
`

// units switches off what in a microVM only delays or fails: terminals that
// nobody sits at, whose devices never come up where there is no udev, and work
// on the archive at hours of its own choosing.
const units = `
mkdir -p "$1/etc/systemd/system-generators"
ln -sf /dev/null "$1/etc/systemd/system-generators/systemd-getty-generator"
for u in getty.target getty@tty1.service console-getty.service; do
	ln -sf /dev/null "$1/etc/systemd/system/$u"
done
rm -rf "$1/etc/systemd/system/getty.target.wants"
for t in apt-daily apt-daily-upgrade dpkg-db-backup fstrim e2scrub_all; do
	rm -f "$1/etc/systemd/system/timers.target.wants/$t.timer"
done
`

// leftovers removes what the bootstrap left, and says that everything which
// systemd rebuilds after a change of /usr is up to date.
const leftovers = `
find "$1/var/log" -type f -delete
rm -rf "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/* "$1"/var/cache/debconf/*-old "$1"/var/lib/dpkg/*-old "$1"/etc/*-
rm -f "$1/etc/.pwd.lock" "$1/etc/apt/apt.conf.d/99mmdebstrap"
touch "$1/etc/.updated" "$1/var/.updated"
`

// quoteAll quotes words for the shell.
func quoteAll(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
	}
	return strings.Join(quoted, " ")
}
