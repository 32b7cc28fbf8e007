package observe_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"banger.dev/banger/internal/agent/observe"
	"banger.dev/banger/internal/agent/wire"
)

// What this very process listens on is found, with who it is.
func TestSocketsOfThisHost(t *testing.T) {
	want := map[string]string{}
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Logf("no %s here: %v", address, err)
			continue
		}
		defer func() { _ = l.Close() }()
		want["tcp "+l.Addr().String()] = ""
	}
	u, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = u.Close() }()
	want["udp "+u.LocalAddr().String()] = ""
	all, err := observe.Sockets("/proc")
	if err != nil {
		t.Fatal(err)
	}
	comm, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all.Sockets {
		key := s.Protocol + " " + net.JoinHostPort(s.Address, fmt.Sprint(s.Port))
		if _, ours := want[key]; !ours {
			continue
		}
		delete(want, key)
		if s.PID != os.Getpid() || s.Process+"\n" != string(comm) {
			t.Errorf("%s is of %d %s, we are %d %s", key, s.PID, s.Process, os.Getpid(), comm)
		}
	}
	for key := range want {
		t.Errorf("%s is not found", key)
	}
}

// guest makes a /proc.
func guest(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for path, text := range files {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if socket, ok := strings.CutPrefix(text, "-> "); ok {
			err = os.Symlink(socket, path)
		} else {
			err = os.WriteFile(path, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

const heading = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"

func line(local, state, inode string) string {
	return fmt.Sprintf("   0: %s 00000000:0000 %s 00000000:00000000 00:00000000 00000000     0        0 %s 1 0000000000000000 100 0 0 10 0\n", local, state, inode)
}

// A service that the first process keeps the socket for is named, workers are
// not, and what is connected is no server.
func TestWhoIsNamed(t *testing.T) {
	root := guest(t, map[string]string{
		"net/tcp":  heading + line("00000000:0050", "0A", "11") + line("0100007F:0016", "0A", "12") + line("0F02000A:0050", "01", "13") + "nonsense\n",
		"net/tcp6": heading + line("00000000000000000000000001000000:1F90", "0A", "14"),
		"net/udp":  heading + line("00000000:0035", "07", "15"),
		"1/fd/3":   "-> socket:[12]", "1/comm": "systemd\n",
		"70/fd/3": "-> socket:[12]", "70/fd/4": "-> /dev/null", "70/comm": "sshd\n",
		"80/fd/3": "-> socket:[11]", "80/comm": "nginx\n",
		"81/fd/3": "-> socket:[11]", "81/comm": "worker\n",
		"9/fd/3": "-> socket:[14]", "9/comm": "we\x1bird)\n",
	})
	all, err := observe.Sockets(root)
	if err != nil {
		t.Fatal(err)
	}
	want := []wire.Socket{
		{Protocol: "tcp", Address: "127.0.0.1", Port: 22, PID: 70, Process: "sshd"},
		{Protocol: "udp", Address: "0.0.0.0", Port: 53},
		{Protocol: "tcp", Address: "0.0.0.0", Port: 80, PID: 80, Process: "nginx"},
		{Protocol: "tcp", Address: "::1", Port: 8080, PID: 9, Process: "we\x1bird)"},
	}
	if !slices.Equal(all.Sockets, want) {
		t.Errorf("%+v", all)
	}
}

func TestManySockets(t *testing.T) {
	var table strings.Builder
	table.WriteString(heading)
	for n := range wire.MaxSockets + 10 {
		table.WriteString(line(fmt.Sprintf("00000000:%04X", n+1), "0A", fmt.Sprint(n)))
	}
	all, err := observe.Sockets(guest(t, map[string]string{"net/tcp": table.String()}))
	if err != nil || len(all.Sockets) != wire.MaxSockets || !all.More {
		t.Errorf("%d %v %v", len(all.Sockets), all.More, err)
	}
}

func TestStats(t *testing.T) {
	s, err := observe.Stats("/proc")
	if err != nil || !s.Plausible() || s.MemoryAvailable == 0 || s.Processes == 0 {
		t.Errorf("%+v %v", s, err)
	}
	s, err = observe.Stats(guest(t, map[string]string{"meminfo": "MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:   600 kB\n", "1/comm": "x", "42/comm": "x", "bus/x": "x"}))
	if want := (wire.Stats{MemoryTotal: 1000 << 10, MemoryAvailable: 600 << 10, Processes: 2}); s != want || err != nil {
		t.Errorf("%+v %v", s, err)
	}
	if _, err := observe.Stats(guest(t, map[string]string{"meminfo": "MemTotal:\n"})); err == nil {
		t.Error("it is not said what is missing")
	}
}

// A guest may say anything.
func TestWhatIsNotBelieved(t *testing.T) {
	good := wire.Socket{Protocol: "tcp", Address: "::", Port: 1}
	all := wire.Sockets{Sockets: []wire.Socket{
		{Protocol: "tcp", Address: "evil.example", Port: 1}, {Protocol: "sctp", Address: "::", Port: 1}, {Protocol: "tcp", Address: "::", PID: -1}, good,
	}}
	if got := all.Tidied().Sockets; !slices.Equal(got, []wire.Socket{good}) {
		t.Errorf("%+v", got)
	}
	for _, s := range []wire.Stats{{MemoryTotal: 1 << 60}, {MemoryTotal: 1, MemoryAvailable: 2}, {Processes: -1}} {
		if s.Plausible() {
			t.Errorf("%+v", s)
		}
	}
}
