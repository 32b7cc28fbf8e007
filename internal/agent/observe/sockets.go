// Package observe reads a guest's /proc for whoever looks at it from outside:
// which sockets are listened on and by whom, and what the guest takes. It
// changes nothing and keeps nothing.
package observe

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"banger.dev/banger/internal/agent/wire"
)

// tables are the files of /proc/net with sockets in them, and the state (st) of
// those that wait for clients: TCP_LISTEN, and for UDP one that is not connected.
var tables = []struct{ file, protocol, state string }{
	{"tcp", "tcp", "0A"}, {"tcp6", "tcp", "0A"}, {"udp", "udp", "07"}, {"udp6", "udp", "07"},
}

// Columns of a line of these tables, see proc_net_tcp in the kernel's documentation.
const (
	columnLocal = 1
	columnState = 3
	columnInode = 9
)

// Sockets are the sockets that servers wait on, by port, of the guest that has
// its /proc at root; at most wire.MaxSockets of them.
func Sockets(root string) (wire.Sockets, error) {
	found := map[string]*wire.Socket{} // by inode
	for _, t := range tables {
		err := readTable(filepath.Join(root, "net", t.file), t.protocol, t.state, found)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // a kernel may lack IPv6
			return wire.Sockets{}, err
		}
	}
	name(root, found)
	all := wire.Sockets{Sockets: []wire.Socket{}}
	for _, s := range found {
		all.Sockets = append(all.Sockets, *s)
	}
	slices.SortFunc(all.Sockets, wire.Socket.Compare)
	if len(all.Sockets) > wire.MaxSockets {
		all.Sockets, all.More = all.Sockets[:wire.MaxSockets], true
	}
	return all, nil
}

// readTable adds the sockets of one table that are in state.
func readTable(path, protocol, state string, found map[string]*wire.Socket) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) <= columnInode || fields[columnState] != state {
			continue
		}
		if at, ok := address(fields[columnLocal]); ok {
			found[fields[columnInode]] = &wire.Socket{Protocol: protocol, Address: at.Addr().String(), Port: at.Port()}
		}
	}
	return lines.Err()
}

// address reads 0100007F:0050: words of 32 bits as this machine has them in
// memory, then the port.
func address(s string) (netip.AddrPort, bool) {
	digits, port, _ := strings.Cut(s, ":")
	raw, err := hex.DecodeString(digits)
	if err != nil || len(raw)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for word := raw; len(word) > 0; word = word[4:] {
		binary.NativeEndian.PutUint32(word, binary.BigEndian.Uint32(word))
	}
	addr, ok := netip.AddrFromSlice(raw)
	n, err := strconv.ParseUint(port, 16, 16)
	return netip.AddrPortFrom(addr, uint16(n)), ok && err == nil
}

// name finds the processes that have the sockets open: of several the one with
// the lowest pid, which is the one that forked, but the first process last, for
// it keeps the sockets of the services that it starts on demand.
func name(root string, found map[string]*wire.Socket) {
	for _, pid := range processes(root) {
		if len(found) == 0 {
			return
		}
		dir := filepath.Join(root, strconv.Itoa(pid))
		fds, err := os.ReadDir(filepath.Join(dir, "fd"))
		if err != nil {
			continue // it has ended
		}
		for _, fd := range fds {
			target, err := os.Readlink(filepath.Join(dir, "fd", fd.Name()))
			if err != nil {
				continue
			}
			inode, ok := strings.CutPrefix(target, "socket:[")
			s := found[strings.TrimSuffix(inode, "]")]
			if !ok || s == nil || s.PID != 0 {
				continue
			}
			comm, _ := os.ReadFile(filepath.Join(dir, "comm"))
			s.PID, s.Process = pid, strings.TrimSuffix(string(comm), "\n")
		}
	}
}

// processes are the pids there are, in order, the first process last.
func processes(root string) []int {
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil
	}
	var pids []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	if len(pids) > 0 && pids[0] == 1 {
		pids = append(pids[1:], 1)
	}
	return pids
}
