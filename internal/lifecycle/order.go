package lifecycle

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"

	"banger.dev/banger"
	"banger.dev/banger/internal/agent/wire"
	"banger.dev/banger/internal/monitor"
	"banger.dev/banger/internal/network"
	"banger.dev/banger/internal/replace"
	"banger.dev/banger/internal/vmm"
)

// seedBytes is how much randomness the guest gets at each start.
const seedBytes = 64

// devices are the names of a VM's disks in its guest, by position.
type devices struct{ root, work, modules string }

func devicesOf(spec banger.Spec) devices {
	if spec.Work == 0 {
		return devices{root: "vdb", modules: "vdc"}
	}
	return devices{root: "vdb", work: "vdc", modules: "vdd"}
}

// writeConfigDisk makes vda anew: identity, network, and how commands are run:
// as the image has it, where the spec does not say otherwise.
func (m *Manager) writeConfigDisk(rec banger.Record, image banger.Image) error {
	seed := make([]byte, seedBytes)
	if _, err := rand.Read(seed); err != nil {
		return err
	}
	dev := devicesOf(rec.Spec)
	cfg := wire.Config{
		ID: rec.ID, Name: rec.Name, MachineID: rec.Machine.MachineID, Generation: rec.Machine.Generation,
		Seed: seed, Init: string(rec.Spec.Init), Root: dev.root, Work: dev.work, Modules: dev.modules,
		Env: slices.Concat(image.Env, rec.Spec.Env), Workdir: cmp.Or(rec.Spec.Workdir, image.Workdir), User: cmp.Or(rec.Spec.User, image.User),
	}
	if rec.Spec.Net == banger.NetUser {
		plan := network.User()
		cfg.Network = &wire.Network{
			MAC: rec.Machine.MAC, MTU: plan.MTU,
			Address: plan.Guest4.String(), Gateway: plan.Gateway4.String(),
			Address6: plan.Guest6.String(), Gateway6: plan.Gateway6.String(),
			DNS: []string{plan.Gateway4.String()},
		}
	}
	keys, err := m.keysOf(rec)
	if err != nil {
		return err
	}
	cfg.SSH = &keys
	b, err := wire.EncodeConfig(cfg)
	if err != nil {
		return err
	}
	return replace.File(m.files(rec.ID).ConfigDisk(), b, 0o600)
}

// order is all that the monitor is told.
func (m *Manager) order(rec banger.Record, p Platform, kernel banger.Kernel, a attached) monitor.Order {
	files := m.files(rec.ID)
	cfg := vmm.Config{
		ID: rec.ID, Binary: p.Binary, Accel: p.Accel, Machine: rec.Machine.Machine, CPU: rec.Machine.CPU,
		VCPUs: rec.Spec.VCPUs, Memory: rec.Spec.Memory,
		Kernel: kernel.VMLinux, Initramfs: kernel.Initramfs, Cmdline: cmdline(rec, p),
	}
	cfg.Disks = append(cfg.Disks,
		vmm.Disk{Path: files.ConfigDisk(), Format: "raw", ReadOnly: true},
		vmm.Disk{Path: a.root.Path, Format: a.root.Format, Backing: a.root.Backing, BackingFormat: a.root.BackingFormat, Volatile: rec.Spec.Ephemeral})
	if rec.Spec.Work != 0 {
		cfg.Disks = append(cfg.Disks,
			vmm.Disk{Path: a.work.Path, Format: a.work.Format, Backing: a.work.Backing, BackingFormat: a.work.BackingFormat, Volatile: rec.Spec.Ephemeral})
	}
	cfg.Disks = append(cfg.Disks, vmm.Disk{Path: kernel.Modules, Format: "raw", ReadOnly: true})
	var settings *network.Settings
	if rec.Spec.Net == banger.NetUser {
		cfg.NIC = &vmm.NIC{MAC: rec.Machine.MAC}
		net := m.Network()
		settings = &network.Settings{AllowPrivate: net.AllowPrivate, DNS: net.DNS}
	}
	if uid, gid, ok := p.RunAs(rec.ID); ok {
		cfg.RunAs = &vmm.Credential{UID: uid, GID: gid}
	}
	return monitor.Order{ID: rec.ID, Name: rec.Name, Files: files, VMM: rec.Machine.VMM, Machine: cfg, Network: settings, Publish: rec.Spec.Publish}
}

// emulated are words for a CPU that TCG emulates. Kernels that use cmpxchg16b
// panicked at random under QEMU 7.2, their flags garbled; programs keep it. And
// page table isolation is against a fault of real CPUs: the emulated one reads
// nothing that it may not, but each change of tables empties QEMU's TLB. On a busy
// host the emulated timer may miss the few ticks in which the kernel looks whether
// its interrupt comes at all, and panics if it does not; so it is not to look.
var emulated = []string{"clearcpuid=cx16", "pti=off", "no_timer_check"}

// cmdline is the guest's kernel command line; docs/benchmarks.md says what each
// tuning is worth. Nothing secret is in it.
func cmdline(rec banger.Record, p Platform) string {
	words := []string{
		"console=ttyS0", "quiet", "panic=-1",
		"cryptomgr.notests", "8250.nr_uarts=1", "rcupdate.rcu_expedited=1", "net.ifnames=0",
		// The image's init must not undo the identity, nor put a login on the console.
		"systemd.hostname=" + rec.Name, "systemd.machine_id=" + rec.Machine.MachineID,
		"systemd.mask=serial-getty@ttyS0.service",
		// A tmpfs laid over /tmp would hide what commands have put there since ready,
		// and bound it by the guest's memory.
		"systemd.mask=tmp.mount",
	}
	if p.Accel == "tcg" {
		words = append(words, emulated...)
	}
	if p.Accel == "tcg" && p.TSCKHz != 0 {
		words = append(words, fmt.Sprintf("tsc_early_khz=%d", p.TSCKHz))
	}
	if rec.Spec.VCPUs == 1 {
		words = append(words, "noreplace-smp")
	}
	if rec.Spec.KernelArgs != "" { // last, for of two the kernel takes the later one
		words = append(words, rec.Spec.KernelArgs)
	}
	return strings.Join(words, " ")
}
