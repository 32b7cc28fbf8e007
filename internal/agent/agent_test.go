package agent

import (
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"banger.dev/banger/internal/agent/wire"
)

func TestFindSerial(t *testing.T) {
	class := t.TempDir()
	if _, err := findSerial(class); err == nil {
		t.Error("found in nothing")
	}
	for port, name := range map[string]string{"vport1p1": "org.qemu.guest_agent.0", "vport2p1": wire.SerialPort} {
		dir := filepath.Join(class, port)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "name"), []byte(name+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if device, err := findSerial(class); err != nil || device != "/dev/vport2p1" {
		t.Errorf("%q, %v", device, err)
	}
}

func TestStreamsGoToTheirPorts(t *testing.T) {
	served := make(chan string, 1)
	p := ports{7: func(c net.Conn) { served <- "seven"; _ = c.Close() }}
	for port, want := range map[uint32]string{7: "seven", 8: ""} {
		client, inside := net.Pipe()
		go accept(p, inside)
		if err := wire.WritePort(client, port); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Read(make([]byte, 1)); err == nil {
			t.Error("it was not closed")
		}
		got := ""
		select {
		case got = <-served:
		default:
		}
		if got != want {
			t.Errorf("port %d: %q", port, got)
		}
	}
}

func TestAnAgentThatDiesYoungIsStartedMoreSlowly(t *testing.T) {
	var r restartPause
	first, second := r.next(0), r.next(0)
	for range 20 {
		r.next(0)
	}
	if first <= 0 || second <= first || r.next(0) != 5*time.Second {
		t.Errorf("%v, %v, … %v", first, second, r.last)
	}
	if again := r.next(time.Minute); again != first {
		t.Errorf("after a long life: %v", again)
	}
}

func TestRunByHandItExplainsItself(t *testing.T) {
	if code := Main([]string{"banger-agent"}); code != 2 {
		t.Errorf("exit code %d", code)
	}
}
