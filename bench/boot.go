package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"github.com/cavaliergopher/cpio"

	"banger.dev/banger"
	"banger.dev/banger/internal/apt"
	"banger.dev/banger/internal/disk"
	"banger.dev/banger/internal/disk/qcow2"
	"banger.dev/banger/internal/doctor"
	"banger.dev/banger/internal/image"
	"banger.dev/banger/internal/kernel"
	"banger.dev/banger/internal/paths"
	"banger.dev/banger/internal/vmm"
	"banger.dev/banger/internal/vmm/qemu"
)

// floorCmdline is the tuned kernel command line of the floor.
const floorCmdline = "console=ttyS0 quiet panic=-1 cryptomgr.notests 8250.nr_uarts=1 rcupdate.rcu_expedited=1 noreplace-smp clearcpuid=cx16 pti=off"

// boot compares a boot to a command's output: banger's VMM command line alone,
// and the whole of `vm run --rm -- true`, with the floor. Rounds are interleaved.
func (b *bench) boot(ctx context.Context) error {
	f, err := b.newFloor(ctx)
	if err != nil {
		return err
	}
	var floor, alone, whole []float64
	for range b.rounds {
		for _, m := range []struct {
			into *[]float64
			do   func(context.Context) error
		}{{&floor, f.plain}, {&alone, f.driver}, {&whole, func(ctx context.Context) error {
			return b.banger(ctx, "vm", "run", "--rm", "--", "true").Run()
		}}} {
			s, err := seconds(func() error { return m.do(ctx) })
			if err != nil {
				return err
			}
			*m.into = append(*m.into, s)
		}
	}
	b.report.compare("VMM command line alone / floor", "s", median(alone), median(floor), 1.15, true)
	b.report.compare("vm run --rm -- true / floor", "s", median(whole), median(floor), 1.5, true)
	return nil
}

// floor is what both VMM measurements boot.
type floor struct {
	kernel    banger.Kernel
	image     banger.Image
	template  string
	initramfs string
	dir       string
	host      string // accelerator
	cmdline   string
	binary    string
}

func (b *bench) newFloor(ctx context.Context) (*floor, error) {
	log := slog.New(slog.DiscardHandler)
	layout := paths.Layout{Cache: b.cache}
	program, err := os.ReadFile(filepath.Join(b.bin, "banger-agent"))
	if err != nil {
		return nil, err
	}
	server, err := os.ReadFile(filepath.Join(b.bin, "banger-ssh"))
	if err != nil {
		return nil, err
	}
	agent := kernel.NewAgent(program).WithSSH(server)
	sources := apt.DetectSources()
	k, err := kernel.New(layout, apt.New(layout.Apt(), apt.Suite, sources, log), agent, log).Default(ctx, nil)
	if err != nil {
		return nil, err
	}
	images := image.New(layout, nil)
	img, err := images.Resolve(ctx, banger.DefaultImage, nil)
	if err != nil {
		return nil, err
	}
	template, err := images.Template(ctx, banger.DefaultWork)
	if err != nil {
		return nil, err
	}
	binary, err := doctor.QEMU()
	if err != nil {
		return nil, err
	}
	f := &floor{kernel: k, image: img, template: template, dir: b.home, host: b.host.Accel(), cmdline: floorCmdline, binary: binary}
	if b.host.TSCKHz != 0 && f.host == "tcg" {
		f.cmdline += fmt.Sprintf(" tsc_early_khz=%d", b.host.TSCKHz)
	}
	return f, f.makeInitramfs(ctx)
}

// makeInitramfs puts the floor's init behind the boot modules that banger uses.
func (f *floor) makeInitramfs(ctx context.Context) error {
	init := filepath.Join(f.dir, "floorinit")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", init, "./bench/floorinit")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the floor's init: %w: %s", err, out)
	}
	program, err := os.ReadFile(init)
	if err != nil {
		return err
	}
	modules, err := os.ReadFile(filepath.Join(filepath.Dir(f.kernel.VMLinux), "boot-modules.cpio"))
	if err != nil {
		return err
	}
	archive := bytes.NewBuffer(modules)
	w := cpio.NewWriter(archive)
	if err := w.WriteHeader(&cpio.Header{Name: "init", Mode: cpio.TypeReg | 0o755, Size: int64(len(program))}); err != nil {
		return err
	}
	if _, err := w.Write(program); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	f.initramfs = filepath.Join(f.dir, "floor.cpio")
	return os.WriteFile(f.initramfs, archive.Bytes(), 0o644)
}

// plain is the floor itself: the tuned q35 command line, fixed here, with the
// CPU model that banger uses and the root as a read-only disk.
func (f *floor) plain(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, f.binary,
		"-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
		"-machine", "pc-q35-7.2,accel="+f.host+",i8042=off,hpet=off", "-bios", "qboot.rom",
		"-cpu", qemu.CPU(qemu.CPUModel, f.host), "-m", "256",
		"-kernel", f.kernel.VMLinux, "-initrd", f.initramfs, "-append", f.cmdline,
		"-serial", "stdio",
		// vda is only there so that the root is vdb, as in banger's VMs.
		"-drive", "if=none,id=a,file.driver=null-co,file.size=1048576,format=raw,read-only=on", "-device", "virtio-blk-pci,drive=a",
		"-drive", "if=none,id=b,file="+f.image.RootFS+",format=raw,read-only=on", "-device", "virtio-blk-pci,drive=b")
	out, err := cmd.Output()
	if err == nil && !bytes.Contains(out, []byte("floor: done")) {
		err = fmt.Errorf("the floor did not boot: %s", out)
	}
	return err
}

// driver is the same guest under banger's own driver with banger's devices.
func (f *floor) driver(ctx context.Context) (err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var drv qcow2.Driver
	config, system, work := filepath.Join(f.dir, "config.img"), filepath.Join(f.dir, "system.qcow2"), filepath.Join(f.dir, "work.qcow2")
	if err := os.WriteFile(config, make([]byte, 1<<20), 0o600); err != nil {
		return err
	}
	err = errors.Join(
		drv.Create(ctx, disk.Base{Path: f.image.RootFS, Size: f.image.Size}, system, f.image.Size),
		drv.Create(ctx, disk.Base{Path: f.template, Size: banger.DefaultWork}, work, banger.DefaultWork))
	if err != nil {
		return err
	}
	var console bytes.Buffer
	m, err := qemu.Driver{}.Start(ctx, vmm.Config{
		ID: "bench", Binary: f.binary, Accel: f.host, Machine: qemu.MachineType, CPU: qemu.CPUModel,
		VCPUs: 1, Memory: 256 * banger.MiB, Kernel: f.kernel.VMLinux, Initramfs: f.initramfs, Cmdline: f.cmdline,
		Disks: []vmm.Disk{
			{Path: config, Format: "raw", ReadOnly: true},
			{Path: system, Format: "qcow2", Backing: f.image.RootFS, BackingFormat: "raw", Volatile: true},
			{Path: work, Format: "qcow2", Backing: f.template, BackingFormat: "raw", Volatile: true},
			{Path: f.kernel.Modules, Format: "raw", ReadOnly: true},
		},
		NIC:     &vmm.NIC{MAC: "02:00:00:00:00:01"},
		Console: &console, Log: io.Discard,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Kill()) }()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if _, err := m.Wait(ctx); err != nil {
		return err
	}
	if !bytes.Contains(console.Bytes(), []byte("floor: done")) {
		return fmt.Errorf("the floor did not boot under banger's driver: %s", console.Bytes())
	}
	return nil
}
