package user

import (
	"io"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"
)

// maxServers is how many servers are asked, as in resolv.conf(5).
const maxServers = 3

// maxHostFile bounds what is read of a file of the host.
const maxHostFile = 1 << 20

// watched is what a file of the host says. It is looked at whenever it is
// wanted and read again when it has changed, as it does when a VPN comes up.
type watched[T any] struct {
	path  string
	parse func(string) T

	mu    sync.Mutex
	state fileState
	value T
}

// fileState tells one content of a file from another.
type fileState struct {
	read bool
	time time.Time
	size int64
}

func watch[T any](path string, parse func(string) T) *watched[T] {
	return &watched[T]{path: path, parse: parse}
}

func (w *watched[T]) get() T {
	w.mu.Lock()
	defer w.mu.Unlock()
	state := fileState{read: true}
	info, err := os.Stat(w.path)
	if err == nil {
		state.time, state.size = info.ModTime(), info.Size()
	}
	if state != w.state {
		w.state, w.value = state, w.parse(readHostFile(w.path))
	}
	return w.value
}

// readHostFile is a file's content; one that cannot be read says nothing.
func readHostFile(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	b, _ := io.ReadAll(io.LimitReader(f, maxHostFile))
	return string(b)
}

// parseResolv takes the servers of a resolv.conf; without any it is the host's
// own, as in resolv.conf(5).
func parseResolv(text string) []netip.AddrPort {
	var servers []netip.AddrPort
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != "nameserver" || len(servers) == maxServers {
			continue
		}
		if a, err := netip.ParseAddr(words[1]); err == nil {
			servers = append(servers, netip.AddrPortFrom(a, dnsPort))
		}
	}
	if len(servers) == 0 {
		servers = append(servers, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), dnsPort))
	}
	return servers
}

// parseHosts takes the names of a hosts file, each as DNS writes it.
func parseHosts(text string) map[string][]netip.Addr {
	hosts := map[string][]netip.Addr{}
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		a, err := netip.ParseAddr(words[0])
		if err != nil || a.Zone() != "" {
			continue
		}
		for _, name := range words[1:] {
			name = lower(strings.TrimSuffix(name, ".") + ".")
			hosts[name] = append(hosts[name], a)
		}
	}
	return hosts
}

// parseServer takes an address, or one with a port.
func parseServer(text string) (netip.AddrPort, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		return netip.AddrPortFrom(a, dnsPort), nil
	}
	return netip.ParseAddrPort(text)
}

// lower makes names comparable; DNS knows ASCII alone.
func lower(name string) string { return strings.ToLower(name) }
