package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/publish"
)

// kills is how often the daemon is killed, killEvery the longest time between two.
const (
	kills     = 20
	killEvery = 1500 * time.Millisecond
)

// TestDaemonKilledTwentyTimes has three VMs at work and kills the daemon at
// random moments, while verbs run on them and on others. BANGER_SEED repeats the
// moments of a run.
func TestDaemonKilledTwentyTimes(t *testing.T) {
	h := story(t)
	seed := seedOf(t)
	t.Logf("BANGER_SEED=%d", seed)
	moments := rand.New(rand.NewPCG(seed, 0))

	works := []*work{h.begin(t, "one", 7), h.begin(t, "two", 0), h.begin(t, "three", 130)}
	for _, w := range works {
		w.boots(t)
	}
	free, err := publish.Free(banger.Port{HostIP: "127.0.0.1", Protocol: "tcp"})
	if err != nil {
		t.Fatal(err)
	}
	port := strconv.Itoa(free)
	done := make(chan struct{})
	var verbs sync.WaitGroup
	for i, loop := range [][][]string{
		{{"vm", "create", "--name", "other"}, {"vm", "list"}, {"vm", "delete", "--force", "other"}},
		{{"vm", "run", "--detach", "--init", "none", "--name", "fourth"}, {"vm", "stop", "fourth"}, {"vm", "start", "fourth"}, {"vm", "delete", "--force", "fourth"}},
		{{"vm", "port", "add", "one", port + ":80"}, {"exec", "one", "--", "true"}, {"vm", "show", "two"}, {"vm", "port", "remove", "one", port}, {"exec", "three", "--", "true"}},
	} {
		verbs.Go(func() { h.repeat(t, done, loop, rand.New(rand.NewPCG(seed, uint64(i)+1))) })
	}
	for range kills {
		time.Sleep(time.Duration(moments.Int64N(int64(killEvery))))
		h.killDaemon(t)
	}
	close(done)
	verbs.Wait()

	for _, name := range []string{"other", "fourth"} {
		if out, err := h.banger("vm", "delete", "--force", name).CombinedOutput(); err != nil && codeOf(err) != 3 {
			t.Errorf("delete %s: %v: %s", name, err, out)
		}
	}
	for _, w := range works {
		w.end(t)
	}
	vms, err := h.list()
	if err != nil || len(vms) != len(works) {
		t.Errorf("%d VMs are left (%v): %+v", len(vms), err, vms)
	}
}

func seedOf(t *testing.T) uint64 {
	t.Helper()
	said := os.Getenv("BANGER_SEED")
	if said == "" {
		return rand.Uint64()
	}
	seed, err := strconv.ParseUint(said, 10, 64)
	if err != nil {
		t.Fatalf("BANGER_SEED: %v", err)
	}
	return seed
}

// repeat runs verbs one after the other until done. They may end with 1, for
// nobody to answer, and with 3 and 4, for one before them was cut off.
func (h *home) repeat(t *testing.T, done <-chan struct{}, loop [][]string, pauses *rand.Rand) {
	for i := 0; ; i++ {
		select {
		case <-done:
			return
		case <-time.After(time.Duration(pauses.Int64N(int64(200 * time.Millisecond)))):
		}
		args := loop[i%len(loop)]
		out, err := h.banger(args...).CombinedOutput()
		switch code := codeOf(err); code {
		case 0, 1, 3, 4, 125: // 125 is exec's 1
		default:
			t.Errorf("banger %s ends with %d: %s", strings.Join(args, " "), code, out)
		}
	}
}

// killDaemon kills the daemon as soon as one runs.
func (h *home) killDaemon(t *testing.T) {
	err := eventually(func() error {
		out, err := h.banger("daemon", "status", "-o", "json").Output()
		if err != nil {
			return fmt.Errorf("no daemon: %w", err)
		}
		var status struct{ PID int }
		if err := json.Unmarshal(out, &status); err != nil {
			return err
		}
		return syscall.Kill(status.PID, syscall.SIGKILL)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// work is a command in a VM that says a line now and then until it is told to
// end, and then how many lines it has said.
type work struct {
	h    *home
	vm   string
	code int
	cmd  *exec.Cmd
	out  bytes.Buffer
	boot string // the guest's boot id
}

// begin starts a VM and the command in it.
func (h *home) begin(t *testing.T, vm string, code int) *work {
	t.Helper()
	if out, err := h.banger("vm", "run", "--detach", "--init", "none", "--name", vm).CombinedOutput(); err != nil {
		t.Fatalf("run %s: %v: %s", vm, err, out)
	}
	w := &work{h: h, vm: vm, code: code}
	script := fmt.Sprintf("n=0; while [ ! -e /tmp/enough ]; do echo line $n; n=$((n + 1)); sleep 0.1; done; echo $n lines; exit %d", code)
	w.cmd = h.banger("exec", vm, "--", "sh", "-c", script)
	w.cmd.Stdout = &w.out
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return w
}

// boots notes which boot of the guest this is.
func (w *work) boots(t *testing.T) {
	t.Helper()
	w.boot = w.bootID(t)
}

func (w *work) bootID(t *testing.T) string {
	t.Helper()
	out, err := w.h.banger("exec", w.vm, "--", "cat", "/proc/sys/kernel/random/boot_id").Output()
	if err != nil {
		t.Errorf("the boot id of %s: %v", w.vm, err)
	}
	return string(out)
}

// end ends the command, and checks that it has said everything and that its
// guest has not been booted again.
func (w *work) end(t *testing.T) {
	t.Helper()
	if id := w.bootID(t); id != w.boot {
		t.Errorf("the boot id of %s was %s and is %s", w.vm, w.boot, id)
	}
	if out, err := w.h.banger("exec", w.vm, "--", "touch", "/tmp/enough").CombinedOutput(); err != nil {
		t.Errorf("end the command in %s: %v: %s", w.vm, err, out)
		_ = w.cmd.Process.Kill()
	}
	if code := codeOf(w.cmd.Wait()); code != w.code {
		t.Errorf("the command in %s ends with %d, not %d", w.vm, code, w.code)
	}
	lines := strings.Split(strings.TrimSuffix(w.out.String(), "\n"), "\n")
	said := lines[:len(lines)-1]
	for n, line := range said {
		if line != fmt.Sprint("line ", n) {
			t.Fatalf("line %d of the command in %s is %q", n, w.vm, line)
		}
	}
	if last := lines[len(lines)-1]; last != fmt.Sprint(len(said), " lines") {
		t.Errorf("the command in %s has said %d lines, and at last %q", w.vm, len(said), last)
	}
}
