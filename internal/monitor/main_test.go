package monitor

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/paths"
	"banger.dev/banger/internal/proc"
	"banger.dev/banger/internal/vmm"
	"banger.dev/banger/internal/vmm/vmmtest"
	"banger.dev/banger/internal/vmm/vmmtest/fakeguest"
)

// patience bounds what takes a moment on an idle host.
const patience = time.Minute

// TestMain makes the test binary a monitor when it is started as bangerd would be.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "monitor" {
		os.Exit(beMonitor())
	}
	os.Exit(m.Run())
}

func beMonitor() int {
	syscall.Umask(0o077)
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	drivers := map[banger.VMM]vmm.Driver{vmmtest.NameFake: vmmtest.Fake{Guest: fakeguest.Play}}
	if err := Run(context.Background(), drivers, os.Stdin, os.Stdout, log); err != nil {
		log.Error("the monitor ends", "err", err)
		return 1
	}
	return 0
}

// newOrder is for a VM whose guest behaves as the test guest's word says.
func newOrder(t *testing.T, word string) Order {
	t.Helper()
	dir, err := os.MkdirTemp("", "monitor") // t.TempDir is long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	files := paths.VM{Dir: filepath.Join(dir, "vm"), Run: filepath.Join(dir, "run", "vms", "vm")}
	if err := os.Mkdir(files.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	kernel := filepath.Join(dir, "kernel")
	if err := os.WriteFile(kernel, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cat, err := exec.LookPath("cat")
	if err != nil {
		t.Fatal(err)
	}
	return Order{
		ID: "0123456789abcdef", Name: "dev", Files: files, VMM: vmmtest.NameFake, BootTimeout: patience,
		Machine: vmm.Config{ID: "0123456789abcdef", Binary: cat, Kernel: kernel, Initramfs: kernel, Cmdline: fakeguest.Word + word},
	}
}

// vm is a VM whose monitor runs in a process of its own.
type vm struct {
	*Client
	t      *testing.T
	ctx    context.Context
	order  Order
	status Status // of its start
	start  uint64 // the monitor's
}

func self(t *testing.T) Spawner {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Spawner{Binary: binary}
}

func spawn(t *testing.T, order Order) *vm {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	t.Cleanup(cancel)
	status, err := self(t).Spawn(ctx, order)
	if err != nil {
		t.Fatal(err)
	}
	start, _ := proc.StartTime(status.MonitorPID) // 0 if its VM has ended already
	v := &vm{Client: Connect(order.Files.MonitorSocket()), t: t, ctx: ctx, order: order, status: status, start: start}
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(order.Files.MonitorLog())
			console, _ := os.ReadFile(order.Files.Console(0))
			t.Logf("monitor.log:\n%s\nconsole:\n%s", log, console)
		}
		if err := proc.Kill(status.MonitorPID, start, patience); err != nil {
			t.Error(err)
		}
		if err := proc.Kill(status.VMM.PID, status.VMM.Start, patience); err != nil {
			t.Error(err)
		}
	})
	return v
}

// spawnReady starts a VM and waits until its guest is ready.
func spawnReady(t *testing.T, order Order) *vm {
	t.Helper()
	v := spawn(t, order)
	if _, err := v.Ready(v.ctx); err != nil {
		t.Fatal(err)
	}
	return v
}

// ended waits until the monitor is gone and returns what it left.
func (v *vm) ended() Exit {
	v.t.Helper()
	eventually(v.t, "the VM's lock is free", func() bool { return !v.held() })
	eventually(v.t, "the monitor is gone", func() bool { return !proc.Alive(v.status.MonitorPID, v.start) })
	exit, err := ReadExit(v.order.Files.Exit())
	if err != nil {
		v.t.Fatal(err)
	}
	if exit.Time.IsZero() || exit.Reason == "" || exit.Detail == "" || len(exit.Console) > ConsoleTail {
		v.t.Errorf("exit.json is %+v", exit)
	}
	if _, err := os.Stat(v.order.Files.Run); !os.IsNotExist(err) {
		v.t.Errorf("the directory of the sockets is still there (%v)", err)
	}
	return exit
}

func (v *vm) held() bool {
	v.t.Helper()
	held, err := Held(v.order.Files.Lock())
	if err != nil {
		v.t.Fatal(err)
	}
	return held
}

func (v *vm) now() Status {
	v.t.Helper()
	s, err := v.Status(v.ctx)
	if err != nil {
		v.t.Fatal(err)
	}
	return s
}

func eventually(t *testing.T, what string, true func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !true() {
		if time.Now().After(deadline) {
			t.Fatalf("in vain: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func mustJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(err)
	}
	return string(b)
}
