package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// ssh compares a command over a new ssh connection, by the configuration that
// banger prints, with the same into the sshd of a guest that is alike: the same
// client and, so that none wins by its choice of them, the same algorithms.
func (b *bench) ssh(ctx context.Context) error {
	s, err := b.besideSSH(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	config, err := b.sshConfig(ctx)
	if err != nil {
		return err
	}
	var ours, floors []float64
	for range b.rounds * repeats {
		for _, m := range []struct {
			cmd  *exec.Cmd
			into *[]float64
		}{{exec.CommandContext(ctx, "ssh", "-F", config, sshVM+".vm", "true"), &ours}, {s.anew(ctx, "true"), &floors}} {
			t, err := seconds(m.cmd.Run)
			if err != nil {
				return fmt.Errorf("%v: %w", m.cmd.Args, err)
			}
			*m.into = append(*m.into, t)
		}
	}
	b.report.compare("ssh NAME.vm true / into sshd, each a new connection", "s", median(ours), median(floors), 1, true)
	return b.banger(ctx, "vm", "delete", "--force", sshVM).Run()
}

// sshConfig is a file with what `banger ssh-config` prints.
func (b *bench) sshConfig(ctx context.Context) (string, error) {
	config, err := b.banger(ctx, "ssh-config").Output()
	if err != nil {
		return "", err
	}
	file := filepath.Join(b.home, "ssh_config")
	return file, os.WriteFile(file, config, 0o600)
}

// anew is run without the ControlMaster, with the algorithms of banger's server.
func (s *ssh) anew(ctx context.Context, command string) *exec.Cmd {
	first := []string{"-o", "ControlPath=none", "-o", "KexAlgorithms=curve25519-sha256", "-o", "HostKeyAlgorithms=ssh-ed25519", "-o", "Ciphers=chacha20-poly1305@openssh.com"}
	return exec.CommandContext(ctx, "ssh", append(append(first, s.options...), "root@127.0.0.1", command)...)
}
