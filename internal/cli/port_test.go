package cli

import (
	"net/http"
	"strings"
	"testing"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
)

// listPorts, addPorts and removePorts are the daemon's answers about ports.
func (w *world) listPorts(rw http.ResponseWriter, ref string) {
	if vm := w.find(rw, ref); vm != nil {
		reply(rw, 200, vm.Ports)
	}
}

func (w *world) addPorts(rw http.ResponseWriter, ref string) {
	if vm := w.find(rw, ref); vm != nil {
		vm.Ports = []banger.Port{
			{HostIP: "127.0.0.1", HostPort: 8080, GuestPort: 80, Protocol: banger.ProtocolTCP},
			{HostIP: "::1", HostPort: 53, GuestPort: 5353, Protocol: banger.ProtocolUDP},
		}
		reply(rw, 200, api.VerbReply{VM: vm.VM, Changed: true})
	}
}

func (w *world) removePorts(rw http.ResponseWriter, ref string) {
	if vm := w.find(rw, ref); vm != nil {
		vm.Ports = vm.Ports[1:]
		reply(rw, 200, api.VerbReply{VM: vm.VM, Changed: true})
	}
}

func TestPorts(t *testing.T) {
	w := newWorld(t).withDaemon()
	w.add("web", banger.StateRunning)

	w.run("vm", "port", "add", "web", "8080:80", "[::1]:53:5353/udp").
		want(t, 0, "web: published as 127.0.0.1:8080->80, [::1]:53->5353/udp\n", "")
	if body := w.bodies["port-add"]; !strings.Contains(body, `"host_ip":"::1","host_port":53,"guest_port":5353,"protocol":"udp"`) {
		t.Errorf("asked %s", body)
	}
	w.run("vm", "port", "list", "web").want(t, 0, "HOST            GUEST\n127.0.0.1:8080  80/tcp\n[::1]:53        5353/udp\n", "")
	w.run("vm", "port", "list", "-q", "web").want(t, 0, "127.0.0.1:8080\n[::1]:53\n", "")
	if got := w.run("vm", "port", "list", "-o", "json", "web"); got.code != 0 || !strings.Contains(got.stdout, `"host_port": 8080`) {
		t.Errorf("%+v", got)
	}
	if got := w.run("__complete", "vm", "port", "remove", "web", ""); !strings.Contains(got.stdout, "127.0.0.1:8080:80\n") {
		t.Errorf("%+v", got)
	}
	if got := w.run("__complete", "vm", "port", "remove", "web", "127.0.0.1:8080:80", "1"); strings.Contains(got.stdout, ":8080:80") {
		t.Errorf("offered again: %+v", got)
	}
	w.run("vm", "port", "remove", "web", "8080").want(t, 0, "web: still published as [::1]:53->5353/udp\n", "")
	w.run("vm", "port", "remove", "web", "53/udp").want(t, 0, "web: publishes nothing\n", "")
	w.run("vm", "port", "list", "nosuch").want(t, 3, "", "banger: there is no VM \"nosuch\"; try: banger vm list\n")

	for _, args := range [][]string{{"add", "web"}, {"remove", "web"}, {"list"}, {"add", "web", "x"}, {"remove", "web", "0"}} {
		if got := w.run(append([]string{"vm", "port"}, args...)...); got.code != 2 || strings.Count(got.stderr, "\n") != 1 {
			t.Errorf("%v: %+v", args, got)
		}
	}
}
