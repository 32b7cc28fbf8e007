package workspace

import (
	"path/filepath"
	"strings"
	"testing"

	"banger.dev/banger"
	"banger.dev/banger/internal/ipc"
)

// Whoever waits for another command, which may stand still, says so.
func TestHoldSaysThatItWaits(t *testing.T) {
	lock := filepath.Join(t.TempDir(), "workspace.lock")
	other, err := ipc.Lock(lock)
	if err != nil {
		t.Fatal(err)
	}
	said := ""
	vm := VM{Name: "web", Dir: t.TempDir(), Lock: lock, Progress: func(p banger.Progress) {
		said = p.Message
		other.Release()
	}}
	held, err := vm.hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	held.Release()
	if !strings.Contains(said, "web") {
		t.Errorf("it said %q", said)
	}
	if held, err = vm.hold(t.Context()); err != nil {
		t.Fatal(err)
	}
	held.Release()
}
