package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/agent/wire"
	"banger.dev/banger/internal/apt"
	"banger.dev/banger/internal/disk"
	"banger.dev/banger/internal/disk/qcow2"
	"banger.dev/banger/internal/image"
	"banger.dev/banger/internal/paths"
	"banger.dev/banger/internal/vmm/qemu"
)

// Names and sizes of the comparison with OpenSSH.
const (
	sshImage  = "bench-ssh"
	sshVM     = "bench-ssh"
	blobBytes = 256 << 20
	blobPath  = "/dev/shm/blob"
)

// makeBlob makes the file that is read back.
var makeBlob = fmt.Sprintf("head -c %d /dev/zero > %s", blobBytes, blobPath)

// exec compares exec with OpenSSH over a ControlMaster. Each has a VM of its
// own, alike but for the way in, and they take turns.
func (b *bench) exec(ctx context.Context) error {
	s, err := b.besideSSH(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	if err := errors.Join(b.banger(ctx, "exec", sshVM, "--", "sh", "-c", makeBlob).Run(), s.run(ctx, makeBlob).Run()); err != nil {
		return err
	}
	var commands, sshCommands, up, sshUp, down, sshDown []float64
	for range b.rounds {
		for _, m := range []struct {
			into  *[]float64
			cmd   *exec.Cmd
			bytes int64 // to stdin, when above 0; out of stdout, when below
		}{
			{&commands, b.banger(ctx, "exec", sshVM, "--", "true"), 0},
			{&sshCommands, s.run(ctx, "true"), 0},
			{&up, b.banger(ctx, "exec", sshVM, "--", "sh", "-c", "cat > /dev/null"), blobBytes},
			{&sshUp, s.run(ctx, "cat > /dev/null"), blobBytes},
			{&down, b.banger(ctx, "exec", sshVM, "--", "cat", blobPath), -blobBytes},
			{&sshDown, s.run(ctx, "cat "+blobPath), -blobBytes},
		} {
			value, err := transfer(m.cmd, m.bytes)
			if err != nil {
				return fmt.Errorf("%v: %w", m.cmd.Args, err)
			}
			*m.into = append(*m.into, value)
		}
	}
	b.report.compare("exec NAME -- true / ssh ControlMaster", "s", median(commands), median(sshCommands), 0.8, true)
	b.report.compare("256 MiB to exec cat / ssh", "MB/s", median(up), median(sshUp), 3, false)
	b.report.compare("256 MiB from exec cat / ssh", "MB/s", median(down), median(sshDown), 3, false)
	return b.banger(ctx, "vm", "delete", "--force", sshVM).Run()
}

// besideSSH starts the VM that is measured, and the guest that OpenSSH serves.
func (b *bench) besideSSH(ctx context.Context) (*ssh, error) {
	if err := b.makeSSHImage(ctx); err != nil {
		return nil, err
	}
	if err := b.banger(ctx, "vm", "run", "--detach", "--name", sshVM, "--image", sshImage, "--init", "none", "--memory", "1GiB").Run(); err != nil {
		return nil, err
	}
	return b.newSSH(ctx)
}

// transfer runs cmd and gives seconds, or MB/s where bytes go in or out.
func transfer(cmd *exec.Cmd, bytes int64) (float64, error) {
	counted := &counter{}
	cmd.Stdout = counted
	if bytes > 0 {
		cmd.Stdin = io.LimitReader(zeros{}, bytes)
	}
	s, err := seconds(cmd.Run)
	if err != nil || bytes == 0 {
		return s, err
	}
	if bytes < 0 {
		bytes = -bytes
		if counted.n != bytes {
			return 0, fmt.Errorf("%d bytes came, not %d", counted.n, bytes)
		}
	}
	return float64(bytes) / 1e6 / s, nil
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) { c.n += int64(len(p)); return len(p), nil }

// sshInit is the init of the image: a server and nothing else.
const sshInit = "#!/bin/sh\nmkdir -p /run/sshd /root/.ssh\nchmod 700 /root/.ssh\ncp /etc/bench.pub /root/.ssh/authorized_keys\nexec /usr/sbin/sshd -D\n"

// makeSSHImage bootstraps a Debian whose init is an SSH server, once for each
// cache, with a key that is kept beside it.
func (b *bench) makeSSHImage(ctx context.Context) error {
	images := image.New(paths.Layout{Cache: b.cache}, nil)
	if _, err := images.Resolve(ctx, sshImage, nil); err == nil {
		return nil
	}
	fmt.Fprintln(os.Stderr, "bench: make an image with an SSH server")
	if err := errors.Join(removeAll(b.sshKey(), b.sshKey()+".pub"), os.MkdirAll(filepath.Dir(b.sshKey()), 0o700)); err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", b.sshKey()).CombinedOutput(); err != nil {
		return fmt.Errorf("ssh-keygen: %w: %s", err, out)
	}
	init := filepath.Join(b.home, "init")
	if err := os.WriteFile(init, []byte(sshInit), 0o755); err != nil {
		return err
	}
	sources := apt.DetectSources()
	cmd := exec.CommandContext(ctx, "mmdebstrap", "--variant=minbase", "--include=openssh-server", "--keyring="+sources.Keyring,
		"--customize-hook=upload "+b.sshKey()+".pub /etc/bench.pub", "--customize-hook=upload "+init+" /sbin/init", "--customize-hook=chmod 755 $1/sbin/init",
		apt.Suite, "-", sources.Mirror)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	tar, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	_, err = images.AddTar(ctx, sshImage, tar, image.Config{}, nil)
	if werr := cmd.Wait(); werr != nil {
		err = errors.Join(err, fmt.Errorf("mmdebstrap: %w: %s", werr, complaints.String()))
	}
	return err
}

func (b *bench) sshKey() string { return filepath.Join(b.cache, "bench", "key") }

func removeAll(paths ...string) error {
	var errs []error
	for _, p := range paths {
		errs = append(errs, os.RemoveAll(p))
	}
	return errors.Join(errs...)
}

// ssh is a ControlMaster into a guest that is the same as the VM that exec is
// measured in, but that QEMU forwards a TCP port of the host's loopback to its
// sshd, as is usually done.
type ssh struct {
	options []string
	vm      *exec.Cmd
}

// sshSpace is what the guest may write.
const sshSpace = 8 * banger.GiB

// sshPatience is how long the guest's sshd may take to answer.
const sshPatience = 2 * time.Minute

func (b *bench) newSSH(ctx context.Context) (*ssh, error) {
	vm, port, err := b.startSSHGuest(ctx)
	if err != nil {
		return nil, err
	}
	s := &ssh{vm: vm, options: []string{
		"-F", "none", "-i", b.sshKey(), "-p", strconv.Itoa(port), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
		"-o", "LogLevel=ERROR", "-o", "ConnectTimeout=20", "-o", "ControlPath=" + filepath.Join(b.home, "mux"),
	}}
	deadline := time.Now().Add(sshPatience)
	for {
		// It stays behind, so no pipe may wait for its output to end.
		err := exec.CommandContext(ctx, "ssh", append(s.options, "-M", "-N", "-f", "root@127.0.0.1")...).Run()
		if err == nil {
			return s, nil
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			s.close()
			return nil, fmt.Errorf("ssh into the guest: %w", err)
		}
		time.Sleep(time.Second)
	}
}

// startSSHGuest boots the image with banger's kernel, agent and devices.
func (b *bench) startSSHGuest(ctx context.Context) (*exec.Cmd, int, error) {
	f, err := b.newFloor(ctx)
	if err != nil {
		return nil, 0, err
	}
	img, err := image.New(paths.Layout{Cache: b.cache}, nil).Resolve(ctx, sshImage, nil)
	if err != nil {
		return nil, 0, err
	}
	config, err := wire.EncodeConfig(wire.Config{
		ID: "0000000000000000", Name: "floor", MachineID: strings.Repeat("0", 32), Seed: make([]byte, 64), Init: "auto", Root: "vdb", Modules: "vdc",
		Network: &wire.Network{MAC: "02:00:00:00:00:02", Address: "10.0.2.15/24", Gateway: "10.0.2.2", DNS: []string{"10.0.2.3"}},
	})
	if err != nil {
		return nil, 0, err
	}
	configPath, system := filepath.Join(b.home, "ssh.img"), filepath.Join(b.home, "ssh.qcow2")
	err = errors.Join(os.WriteFile(configPath, config, 0o600),
		qcow2.Driver{}.Create(ctx, disk.Base{Path: img.RootFS, Size: img.Size}, system, img.Size+sshSpace))
	if err != nil {
		return nil, 0, err
	}
	port, err := freePort()
	if err != nil {
		return nil, 0, err
	}
	drive := func(i int, path, format, mode string) []string {
		return []string{"-drive", fmt.Sprintf("if=none,id=d%d,file=%s,format=%s,read-only=%s", i, path, format, mode), "-device", fmt.Sprintf("virtio-blk-pci,drive=d%d", i)}
	}
	args := []string{
		"-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "null",
		"-machine", qemu.MachineType + ",accel=" + f.host + ",i8042=off,hpet=off", "-bios", "qboot.rom", "-cpu", qemu.CPU(qemu.CPUModel, f.host), "-m", "1024",
		"-kernel", f.kernel.VMLinux, "-initrd", f.kernel.Initramfs, "-append", f.cmdline,
		"-netdev", fmt.Sprintf("user,id=n,hostfwd=tcp:127.0.0.1:%d-:22", port), "-device", "virtio-net-pci,netdev=n,romfile=,mac=02:00:00:00:00:02",
		"-device", "virtio-serial-pci", "-chardev", "null,id=c", "-device", "virtserialport,chardev=c,name=" + wire.SerialPort, "-device", "virtio-rng-pci",
	}
	args = append(args, drive(0, configPath, "raw", "on")...)
	args = append(args, drive(1, system, "qcow2", "off")...)
	args = append(args, drive(2, f.kernel.Modules, "raw", "on")...)
	cmd := exec.CommandContext(ctx, f.binary, args...)
	return cmd, port, cmd.Start()
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port, nil
}

func (s *ssh) run(ctx context.Context, command string) *exec.Cmd {
	return exec.CommandContext(ctx, "ssh", append(s.options, "root@127.0.0.1", command)...)
}

func (s *ssh) close() {
	_ = exec.Command("ssh", append(s.options, "-O", "exit", "root@127.0.0.1")...).Run()
	_ = s.vm.Process.Kill()
	_ = s.vm.Wait()
}
