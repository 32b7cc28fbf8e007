package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"banger.dev/banger"
	"banger.dev/banger/internal/paths"
)

// sshOption is one setting of ssh_config(5).
type sshOption struct{ key, value string }

// carriedToProxy are the variables by which the proxy finds this installation,
// whoever starts ssh.
func carriedToProxy() []string {
	return []string{"BANGER_HOME", "BANGER_CACHE", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"}
}

// sshOptions is how ssh reaches a VM: by its host name, which %h stands for, in
// lower case; programs with an ssh of their own know no other word for it.
func (a *app) sshOptions(l paths.Layout) ([]sshOption, error) {
	binary, err := os.Executable()
	if err != nil {
		return nil, err
	}
	proxy := "env"
	for _, name := range carriedToProxy() {
		if value, ok := a.LookupEnv(name); ok && value != "" {
			proxy += " " + shellQuoted(name+"="+value)
		}
	}
	proxy = strings.ReplaceAll(proxy+" "+shellQuoted(binary), "%", "%%") + " ssh-proxy --fdpass %h"
	if strings.ContainsAny(proxy+l.SSH(), "\r\n") || strings.ContainsAny(l.SSH(), "\"") || strings.Contains(l.SSH(), "${") {
		return nil, banger.Errorf(banger.KindInvalid, "%q: ssh_config cannot have this path in it", l.SSH()).
			WithNext("set BANGER_HOME to a plainer path")
	}
	keys := `"` + strings.ReplaceAll(l.SSH(), "%", "%%") + "/%h/"
	files := paths.VM{}
	return []sshOption{
		{"ProxyCommand", proxy},
		{"ProxyUseFdpass", "yes"},
		{"User", "root"},
		{"IdentityFile", keys + filepath.Base(files.SSHKey()) + `"`},
		{"IdentitiesOnly", "yes"},
		{"PreferredAuthentications", "publickey"},
		{"UserKnownHostsFile", keys + filepath.Base(files.SSHKnownHosts()) + `"`},
		{"GlobalKnownHostsFile", "/dev/null"},
		{"StrictHostKeyChecking", "yes"},
		{"HostKeyAlgorithms", "ssh-ed25519"},
		{"UpdateHostKeys", "no"},
		{"CheckHostIP", "no"},
		{"KexAlgorithms", "curve25519-sha256,curve25519-sha256@libssh.org"},
		// In this order, because emulated AES takes twice as long.
		{"Ciphers", "chacha20-poly1305@openssh.com,aes128-gcm@openssh.com"},
		{"ForwardX11", "no"},
	}, nil
}

// sshConfig is the block that ssh_config includes.
func sshConfig(options []sshOption) string {
	var b strings.Builder
	b.WriteString("# Written by banger ssh-config; changes are lost.\nHost *.vm\n")
	for _, o := range options {
		fmt.Fprintf(&b, "\t%s %s\n", o.key, o.value)
	}
	return b.String()
}

// shellQuoted is s as one word of a POSIX shell.
func shellQuoted(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-./=:,+@", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
