package qemu

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"

	"banger.dev/banger"
	"banger.dev/banger/internal/vmm"
)

// Defaults of a machine's first start; every later start of the VM reuses them.
const (
	// MachineType is versioned, so that a saved machine can be restored by a newer QEMU.
	MachineType = "pc-q35-7.2"
	// CPUModel is of the x86-64-v3 level, which today's programs want, and the
	// same on every host.
	CPUModel = "Haswell-v4"
	// firmware boots an ELF kernel without a boot menu, 2 % faster than SeaBIOS.
	firmware = "qboot.rom"
	// translationCache bounds what TCG keeps of translated code, in MiB. Without a
	// bound it grows past the guest's own memory.
	translationCache = 128
)

// tcgCPUFlags leave out what TCG cannot do, of which it would warn, and ERMS:
// with it the guest's kernel copies and clears by byte-wise string instructions,
// which hardware makes fast and emulation does one byte at a time.
const tcgCPUFlags = ",-erms,-pcid,-x2apic,-tsc-deadline,-invpcid,-spec-ctrl"

// descriptors hands open files to QEMU: each gets a number in the child.
type descriptors struct{ files []*os.File }

// firstExtra is the child's number of the first of exec.Cmd's ExtraFiles.
const firstExtra = 3

func (d *descriptors) add(f *os.File) int {
	d.files = append(d.files, f)
	return firstExtra + len(d.files) - 1
}

func (d *descriptors) open(path string, flag int) (int, error) {
	f, err := os.OpenFile(path, flag, 0)
	if err != nil {
		return 0, err
	}
	return d.add(f), nil
}

func (d *descriptors) closeAll() {
	for _, f := range d.files {
		_ = f.Close()
	}
	d.files = nil
}

// sockets are the child's ends of the byte streams.
type sockets struct{ qmp, console, channel, network int }

// args makes the command line. Every file travels as an open descriptor: QEMU
// needs no right to the directories it is in, and opens nothing by name.
func args(cfg vmm.Config, s sockets, d *descriptors) ([]string, error) {
	kernel, err := d.open(cfg.Kernel, os.O_RDONLY)
	if err != nil {
		return nil, fmt.Errorf("kernel: %w", err)
	}
	initramfs, err := d.open(cfg.Initramfs, os.O_RDONLY)
	if err != nil {
		return nil, fmt.Errorf("initramfs: %w", err)
	}
	a := []string{
		"-name", "banger-" + cfg.ID,
		"-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
		"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
		"-machine", cfg.Machine + ",memory-backend=ram,i8042=off,hpet=off,usb=off,smbus=off,sata=off,vmport=off,smm=off,graphics=off",
		"-accel", accel(cfg.Accel),
		"-cpu", CPU(cfg.CPU, cfg.Accel),
		"-smp", strconv.Itoa(cfg.VCPUs),
		"-object", fmt.Sprintf("memory-backend-ram,id=ram,size=%d", int64(cfg.Memory)),
		"-m", strconv.FormatInt(int64(cfg.Memory/banger.MiB), 10),
		"-bios", firmware,
		"-kernel", fmt.Sprintf("/proc/self/fd/%d", kernel),
		"-initrd", fmt.Sprintf("/proc/self/fd/%d", initramfs),
		"-append", cfg.Cmdline,
		"-chardev", fmt.Sprintf("socket,id=qmp,fd=%d", s.qmp), "-mon", "chardev=qmp,mode=control",
		"-chardev", fmt.Sprintf("socket,id=console,fd=%d", s.console), "-serial", "chardev:console",
		"-chardev", fmt.Sprintf("socket,id=agent,fd=%d", s.channel),
		"-device", "virtio-serial-pci,id=serial,max_ports=2", "-device", "virtserialport,id=agent,chardev=agent,name=banger.agent",
		"-device", "virtio-rng-pci",
	}
	for i, disk := range cfg.Disks {
		if a, err = addDisk(a, i, disk, d); err != nil {
			return nil, err
		}
	}
	if cfg.NIC != nil {
		a = append(a, "-netdev", fmt.Sprintf("stream,id=net0,server=off,addr.type=fd,addr.str=%d", s.network),
			"-device", "virtio-net-pci,netdev=net0,romfile=,mac="+cfg.NIC.MAC)
	}
	return a, nil
}

func accel(name string) string {
	if name == "kvm" {
		return "kvm"
	}
	return fmt.Sprintf("tcg,thread=multi,tb-size=%d", translationCache)
}

// CPU is the argument of -cpu for a model under an accelerator.
func CPU(model, accel string) string {
	if accel == "kvm" {
		return model
	}
	return model + tcgCPUFlags
}

// diskNode names the block node of disk i.
func diskNode(i int) string { return fmt.Sprintf("disk%d", i) }

// addDisk appends the block nodes of disk i and its device.
func addDisk(a []string, i int, disk vmm.Disk, d *descriptors) ([]string, error) {
	node := diskNode(i)
	format := blockNode{"driver": disk.Format, "node-name": node, "read-only": disk.ReadOnly, "discard": "unmap"}
	if disk.Volatile {
		format["cache"] = map[string]any{"direct": false, "no-flush": true}
	}
	var err error
	if a, format["file"], err = addFile(a, disk.Path, disk.ReadOnly, d); err != nil {
		return nil, fmt.Errorf("disk %d: %w", i, err)
	}
	if disk.Backing == "" && disk.Format == "qcow2" {
		format["backing"] = nil // whatever the image file says
	}
	if disk.Backing != "" {
		base := blockNode{"driver": disk.BackingFormat, "node-name": node + "-base", "read-only": true}
		if a, base["file"], err = addFile(a, disk.Backing, true, d); err != nil {
			return nil, fmt.Errorf("base of disk %d: %w", i, err)
		}
		a = append(a, "-blockdev", base.String())
		format["backing"] = node + "-base"
	}
	return append(a, "-blockdev", format.String(),
		"-device", fmt.Sprintf("virtio-blk-pci,drive=%s,id=%s-dev", node, node)), nil
}

// addFile passes path as an open descriptor in a descriptor set of its own and
// gives the protocol node that reads it.
func addFile(a []string, path string, readOnly bool, d *descriptors) ([]string, blockNode, error) {
	flag := os.O_RDWR
	if readOnly {
		flag = os.O_RDONLY
	}
	fd, err := d.open(path, flag)
	if err != nil {
		return nil, nil, err
	}
	a = append(a, "-add-fd", fmt.Sprintf("fd=%d,set=%d", fd, fd))
	return a, blockNode{"driver": "file", "filename": fmt.Sprintf("/dev/fdset/%d", fd), "read-only": readOnly, "discard": "unmap"}, nil
}

// blockNode is the JSON argument of -blockdev.
type blockNode map[string]any

func (b blockNode) String() string {
	j, err := json.Marshal(b)
	if err != nil { // maps of strings, booleans and nil always marshal
		panic(err)
	}
	return string(j)
}
