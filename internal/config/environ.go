package config

import (
	"path/filepath"
	"slices"
	"strings"
)

// daemonPath is the daemon's PATH, whatever the user's is.
const daemonPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// kept are the variables that a daemon takes from whoever started it: who it is,
// where its files are, and how Debian's archive is reached.
var kept = []string{
	"HOME", "USER", "LOGNAME", "TMPDIR",
	"XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR",
	"http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
}

// DaemonEnviron is what a daemon keeps of an environment: the list above,
// banger's own variables, and nothing else of the shell that happened to give
// birth to it. Paths of banger's become absolute, for the daemon runs in /.
func DaemonEnviron(environ []string) []string {
	env := []string{"PATH=" + daemonPath, "LANG=C.UTF-8"}
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		switch {
		case name == "BANGER_HOME" || name == "BANGER_CACHE":
			if abs, err := filepath.Abs(value); err == nil && value != "" {
				env = append(env, name+"="+abs)
			}
		case slices.Contains(kept, name), strings.HasPrefix(name, "BANGER_"):
			env = append(env, entry)
		}
	}
	return env
}
