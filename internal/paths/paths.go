// Package paths holds every name banger has on disk, one comment each, and
// nothing else: it decides where things are, not what is in them. The same
// list is in ARCHITECTURE.md.
package paths

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"banger.dev/banger"
)

// MaxSocket is the longest path a unix socket can have: sun_path is 108 bytes
// with the closing NUL (unix(7)).
const MaxSocket = 107

// Layout is where one installation keeps its files.
type Layout struct {
	Config string // config.toml
	State  string // the database and the VMs' directories; lost = VMs lost
	Cache  string // images, kernels, downloads; lost = fetched again. May be shared
	Run    string // sockets; empty after a reboot
}

// FromEnv reads the layout from BANGER_HOME and BANGER_CACHE, else from the XDG
// variables, else from their defaults.
func FromEnv(getenv func(string) string) (Layout, error) {
	var l Layout
	if home := getenv("BANGER_HOME"); home != "" {
		abs, err := filepath.Abs(home)
		if err != nil {
			return l, banger.Errorf(banger.KindInvalid, "BANGER_HOME=%s: %w", home, err)
		}
		l = Layout{
			Config: filepath.Join(abs, "config"),
			State:  filepath.Join(abs, "state"),
			Cache:  filepath.Join(abs, "cache"),
			Run:    filepath.Join(abs, "run"),
		}
	} else {
		user := getenv("HOME")
		xdg := func(variable, fallback string) string {
			if dir := getenv(variable); filepath.IsAbs(dir) {
				return filepath.Join(dir, "banger")
			}
			return filepath.Join(user, fallback, "banger")
		}
		if user == "" && (getenv("XDG_CONFIG_HOME") == "" || getenv("XDG_STATE_HOME") == "" || getenv("XDG_CACHE_HOME") == "") {
			return l, banger.Errorf(banger.KindInvalid, "HOME is not set, so there is no place for banger's files").
				WithNext("export BANGER_HOME=/a/directory/of/yours")
		}
		l = Layout{
			Config: xdg("XDG_CONFIG_HOME", ".config"),
			State:  xdg("XDG_STATE_HOME", ".local/state"),
			Cache:  xdg("XDG_CACHE_HOME", ".cache"),
			Run:    filepath.Join(os.TempDir(), "banger-"+strconv.Itoa(os.Getuid())),
		}
		if dir := getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
			l.Run = filepath.Join(dir, "banger")
		}
	}
	if cache := getenv("BANGER_CACHE"); cache != "" {
		abs, err := filepath.Abs(cache)
		if err != nil {
			return l, banger.Errorf(banger.KindInvalid, "BANGER_CACHE=%s: %w", cache, err)
		}
		l.Cache = abs
	}
	if longest := l.VM("0123456789abcdef").MonitorSocket(); len(longest) > MaxSocket {
		return l, banger.Errorf(banger.KindInvalid, "%s is %d bytes too long for a unix socket (at most %d)", longest, len(longest)-MaxSocket, MaxSocket).
			WithNext("set BANGER_HOME to a shorter path")
	}
	return l, nil
}

// ConfigFile is the user's settings.
func (l Layout) ConfigFile() string { return filepath.Join(l.Config, "config.toml") }

// Database is the SQLite database (WAL mode, so -wal and -shm beside it).
func (l Layout) Database() string { return filepath.Join(l.State, "banger.db") }

// DaemonLock is held by the daemon for life.
func (l Layout) DaemonLock() string { return filepath.Join(l.State, "bangerd.lock") }

// DaemonLog is what the daemon says.
func (l Layout) DaemonLog() string { return filepath.Join(l.State, "bangerd.log") }

// DaemonLogBefore is the older half of what the daemon said.
func (l Layout) DaemonLogBefore() string { return filepath.Join(l.State, "bangerd.1.log") }

// DaemonSocket is where the daemon answers; 0600.
func (l Layout) DaemonSocket() string { return filepath.Join(l.Run, "bangerd.sock") }

// StartLock is held by a client from its first dial until the daemon it started answers.
func (l Layout) StartLock() string { return filepath.Join(l.Run, "start.lock") }

// VMs holds a directory for every VM, named by id.
func (l Layout) VMs() string { return filepath.Join(l.State, "vms") }

// RunVMs holds a socket directory for every VM, named by id.
func (l Layout) RunVMs() string { return filepath.Join(l.Run, "vms") }

// SSH holds what ssh reads: its configuration and a link for every VM.
func (l Layout) SSH() string { return filepath.Join(l.State, "ssh") }

// SSHConfig is the block for *.vm, to be included in the user's ssh_config.
func (l Layout) SSHConfig() string { return filepath.Join(l.SSH(), "config") }

// SSHLink leads from a VM's host name, such as web.vm, to its keys.
func (l Layout) SSHLink(name string) string { return filepath.Join(l.SSH(), name+".vm") }

// Images holds a directory for every image, named by digest, and refs.
func (l Layout) Images() string { return filepath.Join(l.Cache, "images") }

// Kernels holds a directory for every kernel, named by digest, and refs.
func (l Layout) Kernels() string { return filepath.Join(l.Cache, "kernels") }

// Templates holds empty file systems that new disks are laid over.
func (l Layout) Templates() string { return filepath.Join(l.Cache, "templates") }

// Apt is a private apt root: own lists, own archives, own configuration.
func (l Layout) Apt() string { return filepath.Join(l.Cache, "apt") }

// DigestDir is the directory name of a digest "sha256:<hex>": the hex alone.
func DigestDir(digest string) string { return strings.TrimPrefix(digest, "sha256:") }

// CacheKey names something in the cache by what went into it.
func CacheKey(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:8])
}

// VM is where one VM's files are.
func (l Layout) VM(id string) VM {
	return VM{Dir: filepath.Join(l.VMs(), id), Run: filepath.Join(l.RunVMs(), id)}
}

// VM names one VM's files. Dir survives a reboot of the host, Run does not.
type VM struct{ Dir, Run string }

// Lock is held by the monitor and its VMM for life: held = alive.
func (v VM) Lock() string { return filepath.Join(v.Dir, "lock") }

// Handles is handles.json: what is true on this boot of the host.
func (v VM) Handles() string { return filepath.Join(v.Dir, "handles.json") }

// Exit is exit.json: how the last run ended; written by the monitor.
func (v VM) Exit() string { return filepath.Join(v.Dir, "exit.json") }

// Metrics is metrics.json: how the last boot went; written by the monitor.
func (v VM) Metrics() string { return filepath.Join(v.Dir, "metrics.json") }

// ConfigDisk is vda: identity, keys, network, environment; 0600, rewritten at each start.
func (v VM) ConfigDisk() string { return filepath.Join(v.Dir, "config.img") }

// SSH holds the VM's ssh keys.
func (v VM) SSH() string { return filepath.Join(v.Dir, "ssh") }

// SSHHostKey is the private key of the guest's ssh server.
func (v VM) SSHHostKey() string { return filepath.Join(v.SSH(), "host_ed25519") }

// SSHKey is the private key that the guest lets in.
func (v VM) SSHKey() string { return filepath.Join(v.SSH(), "id_ed25519") }

// SSHKnownHosts says to ssh what the guest's host key is.
func (v VM) SSHKnownHosts() string { return filepath.Join(v.SSH(), "known_hosts") }

// Console is one of the two files (0 the newer) of the guest's console, each at most 8 MiB.
func (v VM) Console(n int) string {
	return filepath.Join(v.Dir, "console."+strconv.Itoa(n)+".log")
}

// VMMLog is what the VMM itself says.
func (v VM) VMMLog() string { return filepath.Join(v.Dir, "vmm.log") }

// MonitorLog is what the monitor says; at most 1 MiB.
func (v VM) MonitorLog() string { return filepath.Join(v.Dir, "monitor.log") }

// SystemDisk is vdb, the system overlay; the extension is the disk driver's.
func (v VM) SystemDisk(ext string) string { return filepath.Join(v.Dir, "system."+ext) }

// WorkDisk is vdc; the extension is the disk driver's.
func (v VM) WorkDisk(ext string) string { return filepath.Join(v.Dir, "work."+ext) }

// Workspaces holds a directory for each directory of the guest that was prepared
// as a workspace: what it was made of, and the objects that its changes are told by.
func (v VM) Workspaces() string { return filepath.Join(v.Dir, "workspaces") }

// WorkspaceLock is held while files of a workspace are on their way.
func (v VM) WorkspaceLock() string { return filepath.Join(v.Dir, "workspace.lock") }

// APISocket is the VMM's own control socket, where it needs one.
func (v VM) APISocket() string { return filepath.Join(v.Run, "api.sock") }

// GuestSocket reaches the guest: "CONNECT <port>\n".
func (v VM) GuestSocket() string { return filepath.Join(v.Run, "guest.sock") }

// MonitorSocket is where the monitor answers the daemon.
func (v VM) MonitorSocket() string { return filepath.Join(v.Run, "monitor.sock") }

// All is every path by name, for vm show.
func (v VM) All() map[string]string {
	return map[string]string{
		"dir": v.Dir, "run": v.Run, "console": v.Console(0), "vmm_log": v.VMMLog(), "monitor_log": v.MonitorLog(),
		"guest_socket": v.GuestSocket(), "monitor_socket": v.MonitorSocket(),
	}
}
