package qemu_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/apt"
	"banger.dev/banger/internal/kernel"
	"banger.dev/banger/internal/paths"
	"banger.dev/banger/internal/vmm"
	"banger.dev/banger/internal/vmm/qemu"
	"banger.dev/banger/internal/vmm/vmmtest"
	"banger.dev/banger/internal/vmm/vmmtest/testguest"
)

func TestMain(m *testing.M) { os.Exit(vmmtest.Main(m, qemu.Driver{})) }

// patience bounds a boot on a busy host.
const patience = 2 * time.Minute

func TestSuite(t *testing.T) {
	cfg := bootable(t)
	vmmtest.Suite(t, func(*testing.T) vmmtest.Subject {
		return vmmtest.Subject{
			Driver: qemu.Driver{},
			Config: cfg,
			Refuse: func(c *vmm.Config) { c.Machine = "no-such-machine" },
		}
	})
}

// need skips the test for want of something, and fails it in CI, where nothing
// may be wanting.
func need(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// bootable is a machine with Debian's kernel and the test guest.
func bootable(t *testing.T) vmm.Config {
	t.Helper()
	if testing.Short() {
		t.Skip("boots a kernel")
	}
	binary, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		need(t, "%v", err)
	}
	k := pull(t)
	return vmm.Config{
		ID: "0123456789abcdef", Binary: binary, Accel: "tcg", Machine: qemu.MachineType, CPU: qemu.CPUModel,
		VCPUs: 1, Memory: 256 * banger.MiB, Kernel: k.VMLinux, Initramfs: k.Initramfs,
		Cmdline: "console=ttyS0 quiet panic=-1 cryptomgr.notests 8250.nr_uarts=1 rcupdate.rcu_expedited=1 noreplace-smp",
	}
}

// pull makes a kernel whose init is the test guest, of what is in the cache if
// anything is.
func pull(t *testing.T) banger.Kernel {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	init := filepath.Join(t.TempDir(), "init")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", init, "./testdata/guest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the guest's init: %v\n%s", err, out)
	}
	program, err := os.ReadFile(init)
	if err != nil {
		t.Fatal(err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		need(t, "%v", err)
	}
	layout := paths.Layout{Cache: filepath.Join(cache, "banger-test")}
	log := slog.New(slog.DiscardHandler)
	root := apt.New(layout.Apt(), apt.Suite, apt.DetectSources(), log)
	k, err := kernel.New(layout, root, kernel.NewAgent(program), log).Default(ctx, nil)
	if banger.KindOf(err) == banger.KindUnavailable {
		need(t, "%v (%s)", err, banger.NextOf(err))
	}
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// booted is a machine whose guest is asked over its channel.
type booted struct {
	t            *testing.T
	m            vmm.Machine
	answers      *bufio.Reader
	console, log *buffer
}

func boot(t *testing.T, cfg vmm.Config) *booted {
	t.Helper()
	runtime.LockOSThread() // QEMU's parent
	b := &booted{t: t, console: &buffer{}, log: &buffer{}}
	cfg.Console, cfg.Log = b.console, b.log
	m, err := qemu.Driver{}.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = m.Kill()
		runtime.UnlockOSThread()
		if t.Failed() {
			t.Logf("console:\n%s\nQEMU says:\n%s", b.console, b.log)
		}
	})
	stream := m.(vmm.Channeler).Channel()
	if err := stream.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	b.m, b.answers = m, bufio.NewReader(stream)
	return b
}

func (b *booted) tell(format string, args ...any) {
	b.t.Helper()
	if _, err := fmt.Fprintf(b.m.(vmm.Channeler).Channel(), format+"\n", args...); err != nil {
		b.t.Fatal(err)
	}
}

func (b *booted) ask(format string, args ...any) string {
	b.t.Helper()
	b.tell(format, args...)
	answer, err := b.answers.ReadString('\n')
	if err != nil {
		b.t.Fatal(err)
	}
	return strings.TrimSpace(answer)
}

func (b *booted) wait() vmm.Exit {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	exit, err := b.m.Wait(ctx)
	if err != nil {
		b.t.Fatal(err)
	}
	return exit
}

// sector is a disk block that can be told from others.
func sector(text string) []byte { return append([]byte(text), make([]byte, 512-len(text))...) }

// TestDisksAndCPU boots as the monitor of root does: under an unprivileged uid,
// with files in a directory that this uid cannot enter.
func TestDisksAndCPU(t *testing.T) {
	cfg := bootable(t)
	dir := filepath.Join(t.TempDir(), "private")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	// Raw disks whose content looks like another format's: nothing may be probed.
	qfi := append([]byte("QFI\xfb\x00\x00\x00\x03"), make([]byte, 1<<20)...)
	readOnly, base, overlay, plain := filepath.Join(dir, "ro"), filepath.Join(dir, "base"), filepath.Join(dir, "overlay"), filepath.Join(dir, "plain")
	baseContent := append(sector("base"), make([]byte, 4<<20)...)
	for file, content := range map[string][]byte{readOnly: qfi, base: baseContent, plain: make([]byte, 1<<20)} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", base, overlay).CombinedOutput(); err != nil {
		need(t, "qemu-img: %v: %s", err, out)
	}
	cfg.Disks = []vmm.Disk{
		{Path: readOnly, Format: "raw", ReadOnly: true},
		{Path: overlay, Format: "qcow2", Backing: base, BackingFormat: "raw", Volatile: true},
		{Path: plain, Format: "raw"},
	}
	cfg.NIC = &vmm.NIC{MAC: "52:54:00:12:34:56"}
	if os.Getuid() == 0 {
		cfg.RunAs = &vmm.Credential{UID: 1879048193, GID: 1879048193}
	}
	b := boot(t, cfg)
	assertArguments(t, b.m.Handle().PID, dir)
	assertIdentity(t, b.m.Handle().PID, cfg.RunAs)

	flags := strings.Fields(b.ask("cpuflags"))
	for _, flag := range []string{"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave", "sse4_2", "popcnt", "ssse3", "cx16", "lahf_lm"} {
		if !slices.Contains(flags, flag) {
			t.Errorf("the guest's CPU has no %s, which x86-64-v3 wants: %q", flag, flags)
		}
	}
	for device, want := range map[string][]byte{"vda": qfi, "vdb": baseContent, "vdc": make([]byte, 16)} {
		if got := b.ask("get /dev/%s 0 16", device); got != hex.EncodeToString(want[:16]) {
			t.Errorf("/dev/%s begins with %q", device, got)
		}
	}
	if got := b.ask("put /dev/vda 0 %x", sector("x")); !strings.HasPrefix(got, "error: ") {
		t.Errorf("a read-only disk was written to: %q", got)
	}
	for _, device := range []string{"vdb", "vdc"} {
		if got := b.ask("put /dev/%s 0 %x", device, sector("by the guest")); got != "ok" {
			t.Errorf("write to /dev/%s: %q", device, got)
		}
	}
	b.tell(string(testguest.Poweroff))
	if exit := b.wait(); exit.Cause != vmm.CausePoweroff {
		t.Errorf("it ended by %v", exit)
	}
	if text := b.log.String(); text != "" {
		t.Errorf("QEMU complains: %s", text)
	}
	for file, want := range map[string][]byte{base: baseContent, readOnly: qfi, plain: append(sector("by the guest"), make([]byte, 1<<20-512)...)} {
		if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, not the %d expected (%v)", filepath.Base(file), len(got), len(want), err)
		}
	}
	if got, err := os.ReadFile(overlay); err != nil || !bytes.Contains(got, sector("by the guest")) {
		t.Errorf("what the guest wrote is not in the overlay (%v)", err)
	}
}

// assertArguments asserts what a user sees of QEMU in ps.
func assertArguments(t *testing.T, pid int, dir string) {
	t.Helper()
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(cmdline), "\x00", " ")
	if !strings.Contains(text, "-name banger-0123456789abcdef ") || strings.Contains(text, dir) {
		t.Errorf("QEMU was started as %s", text)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(status), "Seccomp:\t2\n") {
		t.Error("QEMU runs without a system call filter")
	}
}

func assertIdentity(t *testing.T, pid int, as *vmm.Credential) {
	t.Helper()
	if as == nil {
		return
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		fmt.Sprintf("Uid:\t%[1]d\t%[1]d\t%[1]d\t%[1]d\n", as.UID), fmt.Sprintf("Gid:\t%[1]d\t%[1]d\t%[1]d\t%[1]d\n", as.GID),
		"Groups:\t \n", "CapEff:\t0000000000000000\n",
	} {
		if !strings.Contains(string(status), want) {
			t.Errorf("QEMU's status has no %q:\n%s", want, status)
		}
	}
}

// TestPanic: a guest that panics ends as a reset, and its last words are whole.
func TestPanic(t *testing.T) {
	cfg := bootable(t)
	cfg.Cmdline += " " + testguest.Word + string(testguest.Panic)
	b := boot(t, cfg)
	if exit := b.wait(); exit.Cause != vmm.CauseReset || exit.Code != 0 {
		t.Errorf("it ended by %v", exit)
	}
	if !strings.Contains(b.console.String(), "Kernel panic - not syncing: ") {
		t.Error("the console does not have the panic")
	}
}

// TestRefusalIsExplained: the error repeats what QEMU said.
func TestRefusalIsExplained(t *testing.T) {
	binary, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		need(t, "%v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := vmm.Config{
		ID: "0123456789abcdef", Binary: binary, Accel: "tcg", Machine: "no-such-machine", CPU: qemu.CPUModel,
		VCPUs: 1, Memory: 64 * banger.MiB, Kernel: file, Initramfs: file,
	}
	_, err = qemu.Driver{}.Start(t.Context(), cfg)
	if err == nil || !strings.Contains(err.Error(), "unsupported machine type") {
		t.Errorf("the error is %v", err)
	}
	cfg.Binary = "/bin/false"
	if _, err := (qemu.Driver{}).Start(t.Context(), cfg); err == nil || strings.Contains(err.Error(), "%!") {
		t.Errorf("a program that ends at once: %v", err)
	}
	cfg.Binary = filepath.Join(t.TempDir(), "none")
	if _, err := (qemu.Driver{}).Start(t.Context(), cfg); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("a program that is not there: %v", err)
	}
}

// buffer is a bytes.Buffer for several goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
