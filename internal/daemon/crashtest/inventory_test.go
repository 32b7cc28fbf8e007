package crashtest

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"banger.dev/banger/internal/proc"
)

// inventory is what there is on this host of this home: files, sockets,
// processes, mounts, loop devices, network links and namespaces. The daemon
// itself and what it writes to at any time are left out. It is sorted.
func (h *home) inventory() ([]string, error) {
	var all []string
	for _, part := range []func() ([]string, error){h.files, h.temporary, h.sockets, h.processes, h.mounts, h.loops, links, namespaces} {
		found, err := part()
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	slices.Sort(all)
	return all, nil
}

// own are files that the daemon has whatever its VMs do.
func own(name string) bool {
	return strings.HasPrefix(name, "banger.db") || strings.HasPrefix(name, "bangerd.") || name == "start.lock"
}

func (h *home) files() (found []string, err error) {
	err = filepath.WalkDir(h.dir, func(path string, d fs.DirEntry, err error) error {
		if os.IsNotExist(err) || err == nil && own(d.Name()) {
			return nil
		}
		if err == nil && d.IsDir() && d.Name() == "locks" { // those of a cache stay
			return fs.SkipDir
		}
		if err == nil {
			found = append(found, "file "+strings.TrimPrefix(path, h.dir)+" "+d.Type().String())
		}
		return err
	})
	return found, err
}

// temporary are the files in $TMPDIR, where nothing of banger's should ever be.
func (h *home) temporary() ([]string, error) {
	return named(h.temp, "temporary", regexp.MustCompile(``))
}

// sockets are those that somebody listens on, whether they have a file or not.
func (h *home) sockets() ([]string, error) {
	return grep("/proc/net/unix", "socket", func(f []string) string {
		if len(f) == 8 && strings.HasPrefix(f[7], h.dir+"/") && !own(filepath.Base(f[7])) && f[3] == "00010000" {
			return f[7]
		}
		return ""
	})
}

func (h *home) mounts() ([]string, error) {
	return grep("/proc/self/mountinfo", "mount", func(f []string) string {
		if len(f) > 4 && strings.HasPrefix(f[4], h.dir) {
			return f[4]
		}
		return ""
	})
}

// grep is one entry, of this kind, for each line of a file of the kernel's in
// which pick finds something.
func grep(file, kind string, pick func(fields []string) string) (found []string, err error) {
	b, err := os.ReadFile(file)
	for line := range strings.Lines(string(b)) {
		if s := pick(strings.Fields(line)); s != "" {
			found = append(found, kind+" "+s)
		}
	}
	return found, err
}

// loops are the loop devices over files of this home.
func (h *home) loops() (found []string, err error) {
	devices, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, d := range devices {
		if b, err := os.ReadFile(d); err == nil && strings.HasPrefix(string(b), h.dir) {
			found = append(found, "loop "+string(b))
		}
	}
	return found, err
}

// ofVM is the name of a network link or namespace of a VM's.
var ofVM = regexp.MustCompile(`^bng-[0-9a-f]{8}$`)

// links are network links with such names.
func links() ([]string, error) { return named("/sys/class/net", "link", ofVM) }

// namespaces are the network namespaces that have been given such names.
func namespaces() ([]string, error) { return named("/run/netns", "namespace", ofVM) }

func named(dir, kind string, pattern *regexp.Regexp) (found []string, err error) {
	entries, err := os.ReadDir(dir)
	if os.IsNotExist(err) {
		return nil, nil
	}
	for _, e := range entries {
		if pattern.MatchString(e.Name()) {
			found = append(found, kind+" "+e.Name())
		}
	}
	return found, err
}

// processes are those, but for the daemon, that have a file or a lock of this
// home open or are told of it in their arguments or environment, each with the
// namespaces that it alone is in.
func (h *home) processes() ([]string, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	daemon, err := h.daemonPID()
	if err != nil {
		return nil, err
	}
	self, err := proc.StartTime(os.Getpid())
	if err != nil {
		return nil, err
	}
	var found []string
	for _, e := range entries {
		pid := e.Name()
		n, err := strconv.Atoi(pid)
		if err != nil || n == os.Getpid() || n == daemon {
			continue
		}
		if began, err := proc.StartTime(n); err != nil || began < self || !h.uses(pid) { // older ones are none of ours
			continue
		}
		name, _ := os.ReadFile("/proc/" + pid + "/comm")
		entry := "process " + pid + " " + strings.TrimSpace(string(name))
		for _, kind := range []string{"net", "mnt", "user"} {
			theirs, _ := os.Readlink("/proc/" + pid + "/ns/" + kind)
			if ours, _ := os.Readlink("/proc/self/ns/" + kind); theirs != ours {
				entry += " " + theirs
			}
		}
		found = append(found, entry)
	}
	return found, nil
}

func (h *home) uses(pid string) bool {
	for _, file := range []string{"cmdline", "environ"} {
		if b, err := os.ReadFile("/proc/" + pid + "/" + file); err == nil && strings.Contains(string(b), h.dir) {
			return true
		}
	}
	fds, _ := os.ReadDir("/proc/" + pid + "/fd")
	for _, fd := range fds {
		if target, err := os.Readlink("/proc/" + pid + "/fd/" + fd.Name()); err == nil && strings.HasPrefix(target, h.dir+"/") {
			return true
		}
	}
	return false
}
