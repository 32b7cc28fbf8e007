package proc

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Owner is a process that has a socket.
type Owner struct {
	PID     int
	Command string // its arguments, shortened; they may hold anything
}

// SocketOwner is the process that stands in the way of binding to addr over tcp
// or udp. It is not found if it is another user's, or of another namespace.
func SocketOwner(protocol string, addr netip.AddrPort) (Owner, bool) {
	inodes := map[string]bool{}
	for _, table := range []string{protocol, protocol + "6"} {
		b, err := os.ReadFile("/proc/net/" + table)
		if err != nil {
			continue // no IPv6
		}
		for line := range strings.Lines(string(b)) {
			if local, inode, ok := boundSocket(line, protocol); ok && collide(local, addr) {
				inodes["socket:["+inode+"]"] = true
			}
		}
	}
	if len(inodes) == 0 {
		return Owner{}, false
	}
	return holder(inodes)
}

// States of a socket in /proc/net that keep its port: a TCP socket that listens
// or is bound, a UDP socket that is connected or not.
const (
	tcpListen = "0A"
	tcpClose  = "07"
)

// boundSocket reads a line of /proc/net/tcp, tcp6, udp or udp6 (proc_net_tcp(5)).
func boundSocket(line, protocol string) (local netip.AddrPort, inode string, ok bool) {
	f := strings.Fields(line)
	if len(f) < 10 || (protocol == "tcp" && f[3] != tcpListen && f[3] != tcpClose) {
		return local, "", false
	}
	ip, port, ok := strings.Cut(f[1], ":")
	raw, err := hex.DecodeString(ip)
	n, perr := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil || perr != nil || len(raw)%4 != 0 {
		return local, "", false
	}
	for i := 0; i < len(raw); i += 4 { // words in the host's order
		raw[i], raw[i+1], raw[i+2], raw[i+3] = raw[i+3], raw[i+2], raw[i+1], raw[i]
	}
	addr, ok := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(addr, uint16(n)), f[9], ok
}

// collide says whether two sockets cannot be bound so. A socket of [::] may have
// the port of 0.0.0.0 too.
func collide(taken, wanted netip.AddrPort) bool {
	t, w := taken.Addr().Unmap(), wanted.Addr()
	switch {
	case taken.Port() != wanted.Port():
		return false
	case t == w || t == netip.IPv6Unspecified():
		return true
	}
	return t.Is4() == w.Is4() && (t.IsUnspecified() || w.IsUnspecified())
}

// holder finds a process that has one of these files open.
func holder(files map[string]bool) (Owner, bool) {
	links, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return Owner{}, false
	}
	for _, link := range links {
		target, err := os.Readlink(link)
		if err != nil || !files[target] {
			continue
		}
		pid, err := strconv.Atoi(strings.Split(link, "/")[2])
		if err == nil {
			return Owner{PID: pid, Command: command(pid)}, true
		}
	}
	return Owner{}, false
}

// maxCommand bounds what is repeated of a process's arguments.
const maxCommand = 60

// command is what a process calls itself: its arguments, or its name.
func command(pid int) string {
	dir := "/proc/" + strconv.Itoa(pid)
	b, _ := os.ReadFile(dir + "/cmdline")
	text := string(bytes.TrimSpace(bytes.ReplaceAll(b, []byte{0}, []byte{' '})))
	if text == "" {
		b, _ = os.ReadFile(dir + "/comm")
		text = strings.TrimSpace(string(b))
	}
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, text)
	if len(text) > maxCommand {
		text = text[:maxCommand] + "…"
	}
	return strings.ToValidUTF8(text, "?")
}
