package vmmtest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"banger.dev/banger/internal/proc"
	"banger.dev/banger/internal/vmm"
	"banger.dev/banger/internal/vmm/vmmtest/testguest"
)

// childVariable makes a test binary a machine's parent; its value is the
// driver's name.
const childVariable = "BANGER_VMMTEST_PARENT"

// Main runs a package's tests. A test that needs a parent of a machine to kill
// runs its own binary again, which Main then makes that parent; it never
// returns there.
func Main(m *testing.M, drivers ...vmm.Driver) int {
	name, child := os.LookupEnv(childVariable)
	if !child {
		return m.Run()
	}
	for _, d := range drivers {
		if string(d.Features().Name) == name {
			return beParent(d)
		}
	}
	fmt.Fprintf(os.Stderr, "no driver %q\n", name)
	return 1
}

// beParent starts the machine on stdin, says on stdout which process it is, and
// stays until it is killed.
func beParent(d vmm.Driver) int {
	runtime.LockOSThread()
	var cfg vmm.Config
	if err := json.NewDecoder(os.Stdin).Decode(&cfg); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	m, err := d.Start(context.Background(), cfg)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := json.NewEncoder(os.Stdout).Encode(m.Handle()); err != nil {
		return 1
	}
	for {
		time.Sleep(time.Hour)
	}
}

// startInChild starts a machine in a process of its own; kill ends that process
// with SIGKILL.
func startInChild(t *testing.T, s Subject) (handle vmm.Handle, kill func()) {
	t.Helper()
	cfg := s.Config
	cfg.Cmdline += " " + testguest.Word + string(testguest.Hang)
	order, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childVariable+"="+string(s.Driver.Features().Name))
	complaints := &buffer{}
	cmd.Stdin, cmd.Stderr = bytes.NewReader(order), complaints
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = func() {
		_ = cmd.Process.Kill() // fails only when it is gone
		_ = cmd.Wait()
	}
	t.Cleanup(func() {
		kill()
		if err := proc.Kill(handle.PID, handle.Start, patience); err != nil {
			t.Error(err)
		}
	})
	if err := json.NewDecoder(out).Decode(&handle); err != nil {
		kill()
		t.Fatalf("the machine's parent did not start it: %v: %s", err, complaints)
	}
	return handle, kill
}
