package cli

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"banger.dev/banger"
	"banger.dev/banger/internal/agent/wire"
)

func TestPortsOfAGuest(t *testing.T) {
	page := httptest.NewServer(http.NotFoundHandler())
	defer page.Close()
	port := page.Listener.Addr().(*net.TCPAddr).Port
	w := newWorld(t).withDaemon()
	vm := w.add("web", banger.StateRunning)
	vm.Ports = []banger.Port{{HostIP: "127.0.0.1", HostPort: 8080, GuestPort: port, Protocol: "tcp"}, {HostIP: "::1", HostPort: 53, GuestPort: 53, Protocol: "udp"}}
	w.sockets = &wire.Sockets{Sockets: []wire.Socket{
		{Protocol: "udp", Address: "::", Port: 53, PID: 7, Process: "evil\x1b[2J\nname"},
		{Protocol: "tcp", Address: "127.0.0.1", Port: uint16(port), PID: 8, Process: "nginx"},
		{Protocol: "tcp", Address: "10.0.2.15", Port: 1},
		{Protocol: "tcp", Address: "nonsense", Port: 2},
	}}
	at := fmt.Sprintf("127.0.0.1:%-5d", port)
	w.run("vm", "ports", "web").want(t, 0, strings.Join([]string{
		`PROTO  ADDRESS          PROCESS              PID  PUBLISHED       URL`,
		`tcp    10.0.2.15:1      -                    -`,
		`udp    [::]:53          evil\x1b[2J\x0aname  7    [::1]:53`,
		`tcp    ` + at + `  nginx                8    127.0.0.1:8080  http://127.0.0.1:8080/`,
		``,
	}, "\n"), "")
	var all []server
	if err := json.Unmarshal([]byte(w.run("vm", "ports", "--no-probe", "-o", "json", "web").stdout), &all); err != nil || len(all) != 3 || all[2].URL != "" || all[2].Published[0].HostPort != 8080 || all[0].Published == nil {
		t.Errorf("%+v %v", all, err)
	}
	vm.Ports = nil
	if got := w.run("vm", "ports", "web"); !strings.Contains(got.stdout, fmt.Sprintf(" http://127.0.0.1:%d/\n", port)) {
		t.Errorf("%q", got.stdout)
	}
	w.sockets = &wire.Sockets{}
	w.run("vm", "ports", "-o", "json", "web").want(t, 0, "[]\n", "")
}

func TestPortsThatCannotBeTold(t *testing.T) {
	w := newWorld(t).withDaemon()
	w.add("web", banger.StateRunning)
	w.add("db", banger.StateStopped)
	if got := w.run("vm", "ports", "web"); got.code != 1 || !strings.Contains(got.stderr, "started by an older banger") || !strings.Contains(got.stderr, "try: banger vm restart web") {
		t.Errorf("%+v", got)
	}
	if got := w.run("vm", "ports", "db"); got.code != 4 || !strings.Contains(got.stderr, "banger vm start db") {
		t.Errorf("%+v", got)
	}
	if got := w.run("vm", "ports", "nosuch"); got.code != 3 {
		t.Errorf("%+v", got)
	}
}
