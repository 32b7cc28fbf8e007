// Package boot takes a guest from the kernel's first process to a root file
// system in which commands can run: disks, mounts, identity, network. It runs
// once, as PID 1 of the initramfs. What goes on afterwards is internal/agent's.
package boot

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"banger.dev/banger/internal/agent/wire"
)

// Dir is where the guest keeps what belongs to the agent, on a tmpfs.
const Dir = "/run/banger"

// Console is where a boot reports. The serial port is slow: one short write for
// each stage, and notes only when something is wrong.
type Console struct{ File *os.File }

// Stage says what is about to begin.
func (c Console) Stage(name string) { _, _ = c.File.WriteString(wire.StagePrefix + name + "\n") }

// Note says what went wrong without ending the boot.
func (c Console) Note(format string, args ...any) {
	_, _ = fmt.Fprintf(c.File, "banger: note: "+format+"\n", args...)
}

// Fatal says why the boot ended, and powers the machine off.
func (c Console) Fatal(reason any) {
	_, _ = fmt.Fprintf(c.File, wire.FatalPrefix+"%v\n", reason)
	PowerOff()
}

// PowerOff ends the machine at once, after writing out what is dirty.
func PowerOff() {
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	select {} // only where the caller is not root of a machine
}

// Run boots. On return the image's root is the root directory, and everything
// but the ports is in place. It must be PID 1's only goroutine at work.
func Run(console Console) (wire.Config, error) {
	if err := mountAt("devtmpfs", "/dev", "devtmpfs", unix.MS_NOSUID, "mode=755"); err != nil {
		return wire.Config{}, err
	}
	console.Stage(wire.StageModules)
	if err := loadModules("/modules"); err != nil {
		return wire.Config{}, err
	}
	console.Stage(wire.StageConfig)
	config, err := readConfig("/dev/vda")
	if err != nil {
		return config, err
	}
	console.Stage(wire.StageRoot)
	if err := switchRoot(console, config); err != nil {
		return config, err
	}
	console.Stage(wire.StageMounts)
	if err := mountSystem(console, config); err != nil {
		return config, err
	}
	console.Stage(wire.StageWork)
	if err := mountWork(console, config); err != nil {
		return config, err
	}
	console.Stage(wire.StageIdentity)
	setIdentity(console, config)
	console.Stage(wire.StageNetwork)
	return config, setNetwork(console, config)
}

func readConfig(device string) (wire.Config, error) {
	if err := waitFor(device); err != nil {
		return wire.Config{}, err
	}
	f, err := os.Open(device)
	if err != nil {
		return wire.Config{}, err
	}
	defer func() { _ = f.Close() }()
	c, err := wire.DecodeConfig(f)
	if err != nil {
		return c, fmt.Errorf("config disk %s: %w", device, err)
	}
	return c, nil
}
