package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// What the repository of the bench is like: 20,000 files and 500 MB.
const (
	treeFiles   = 20_000
	treeFile    = 25_000
	treeChanged = 10
)

// files compares copies with scp, and a workspace with tar through ssh, into a
// guest that is alike. A copy of 1 GiB takes long: fewer rounds.
func (b *bench) files(ctx context.Context) error {
	s, err := b.besideSSH(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	rounds := (b.rounds + 2) / 3
	if err := errors.Join(b.copies(ctx, s, rounds), b.workspace(ctx, s, rounds)); err != nil {
		return err
	}
	return b.banger(ctx, "vm", "delete", "--force", sshVM).Run()
}

func (b *bench) copies(ctx context.Context, s *ssh, rounds int) error {
	local, back := filepath.Join(b.home, "gib"), filepath.Join(b.home, "back")
	if out, err := exec.CommandContext(ctx, "sh", "-c", "head -c 1073741824 /dev/urandom > "+local).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	defer func() { _, _ = os.Remove(local), os.Remove(back) }()
	var in, out, scpIn, scpOut []float64
	for range rounds {
		for _, m := range []struct {
			cmd  *exec.Cmd
			into *[]float64
		}{
			{b.banger(ctx, "cp", local, sshVM+":/root/gib"), &in},
			{s.scp(ctx, local, "root@127.0.0.1:/root/gib"), &scpIn},
			{b.banger(ctx, "cp", sshVM+":/root/gib", back), &out},
			{s.scp(ctx, "root@127.0.0.1:/root/gib", back), &scpOut},
		} {
			t, err := seconds(m.cmd.Run)
			if err != nil {
				return fmt.Errorf("%v: %w", m.cmd.Args, err)
			}
			*m.into = append(*m.into, 1<<30/1e6/t)
		}
	}
	b.report.compare("cp of 1 GiB into a VM / scp", "MB/s", median(in), median(scpIn), 3, false)
	b.report.compare("cp of 1 GiB out of a VM / scp", "MB/s", median(out), median(scpOut), 3, false)
	return nil
}

// scp goes over the ControlMaster.
func (s *ssh) scp(ctx context.Context, from, to string) *exec.Cmd {
	var options []string
	for _, o := range s.options {
		if o == "-p" { // a port, which scp calls otherwise
			o = "-P"
		}
		options = append(options, o)
	}
	return exec.CommandContext(ctx, "scp", append(append(options, "-q"), from, to)...)
}

// makeTree makes a repository whose files are all committed.
const makeTree = `set -e
mkdir "$1" && cd "$1" && git init -q .
head -c %d /dev/urandom | split -a 3 -b %d --additional-suffix=.part - x
for f in x*.part; do d=${f%%.part}; mkdir "$d"; split -a 3 -b %d "$f" "$d/f"; rm "$f"; done
git -c gc.auto=0 add . && git -c user.name=b -c user.email=b -c gc.auto=0 commit -q -m all && git -c core.compression=0 repack -q -a -d`

func (b *bench) workspace(ctx context.Context, s *ssh, rounds int) error {
	tree := filepath.Join(b.home, "tree")
	script := fmt.Sprintf(makeTree, treeFiles*treeFile, 100*treeFile, treeFile)
	if out, err := exec.CommandContext(ctx, "bash", "-c", script, "_", tree).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	defer func() { _ = os.RemoveAll(tree) }()
	var first, second, ssh []float64
	for range rounds {
		if err := errors.Join(b.banger(ctx, "exec", sshVM, "--", "rm", "-rf", "/root/tree").Run(), s.run(ctx, "rm -rf /root/tree").Run()); err != nil {
			return err
		}
		t, err := seconds(b.banger(ctx, "vm", "workspace", "prepare", "--force", sshVM, tree).Run)
		if err != nil {
			return fmt.Errorf("prepare: %w", err)
		}
		first = append(first, t)
		tar := exec.CommandContext(ctx, "sh", append([]string{"-c", `tar -C "$0" -c . | ssh "$@" root@127.0.0.1 'mkdir /root/tree && tar -C /root/tree -x'`, tree}, s.options...)...)
		if t, err = seconds(tar.Run); err != nil {
			return fmt.Errorf("tar through ssh: %w", err)
		}
		ssh = append(ssh, t)
		change := fmt.Sprintf("for f in $(ls -d %s/xaa*/faaa | head -n %d); do echo x >> $f; done", tree, treeChanged)
		if out, err := exec.CommandContext(ctx, "sh", "-c", change).CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		if t, err = seconds(b.banger(ctx, "vm", "workspace", "prepare", sshVM, tree).Run); err != nil {
			return fmt.Errorf("prepare again: %w", err)
		}
		second = append(second, t)
	}
	b.report.compare("workspace prepare of 20,000 files, 500 MB / tar | ssh tar x", "s", median(first), median(ssh), 0.8, true)
	b.report.compare("workspace prepare with 10 changed files / the first", "s", median(second), median(first), 0.1, true)
	return nil
}
