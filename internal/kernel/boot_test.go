package kernel_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/apt"
	"banger.dev/banger/internal/kernel"
	"banger.dev/banger/internal/paths"
)

// need skips the test for want of something, and fails it in CI, where nothing
// may be wanting.
func need(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// TestBoot pulls Debian's kernel and boots it: the modules load in the order
// that the initramfs says, the devices appear, the modules disk can be mounted.
func TestBoot(t *testing.T) {
	if testing.Short() {
		t.Skip("pulls and boots a kernel")
	}
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		need(t, "%v", err)
	}
	k := pullForTest(t)
	console := boot(t, k)
	for _, want := range []string{
		"test: init runs", "test: loaded /modules/", "virtio_blk.ko", "virtio_net.ko",
		"test: has /dev/vda", "test: has /dev/hwrng", "test: has /sys/class/net/eth0", "test: has /sys/class/virtio-ports/vport",
		"test: has /mnt/" + k.Release + "/modules.dep.bin", "test: done",
	} {
		if !strings.Contains(console, want) {
			t.Errorf("the guest did not print %q", want)
		}
	}
	if strings.Contains(console, "test: failed") || t.Failed() {
		t.Errorf("console:\n%s", console)
	}
}

// pullForTest shares downloads and what is made of them between runs.
func pullForTest(t *testing.T) banger.Kernel {
	t.Helper()
	for _, program := range []string{"apt-get", "go"} {
		if _, err := exec.LookPath(program); err != nil {
			need(t, "%v", err)
		}
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		need(t, "%v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	init := filepath.Join(t.TempDir(), "init")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", init, "./testdata/init")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the guest's init: %v\n%s", err, out)
	}
	program, err := os.ReadFile(init)
	if err != nil {
		t.Fatal(err)
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

func boot(t *testing.T, k banger.Kernel) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64",
		"-nodefaults", "-no-user-config", "-machine", "pc-q35-7.2,accel=tcg", "-bios", "qboot.rom", "-cpu", "Haswell-noTSX", "-m", "256",
		"-display", "none", "-serial", "stdio", "-no-reboot",
		"-kernel", k.VMLinux, "-initrd", k.Initramfs, "-append", "console=ttyS0 panic=-1",
		"-drive", "file="+k.Modules+",format=raw,if=none,id=modules,readonly=on", "-device", "virtio-blk-pci,drive=modules",
		"-netdev", "user,id=net,restrict=on", "-device", "virtio-net-pci,netdev=net,romfile=",
		"-device", "virtio-rng-pci", "-device", "virtio-serial-pci", "-device", "virtserialport,name=test")
	var console, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &console, &complaints
	if err := cmd.Run(); err != nil {
		t.Fatalf("qemu: %v\n%s\nconsole:\n%s", err, complaints.String(), console.String())
	}
	return console.String()
}
