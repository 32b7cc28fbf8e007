package lifecycle

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"banger.dev/banger"
	"banger.dev/banger/internal/agent/wire"
	"banger.dev/banger/internal/sshkeys"
)

// makeKeys makes the VM's ssh keys and the link by which ssh finds them. What is
// there and whole stays.
func (m *Manager) makeKeys(rec banger.Record) error {
	_, err := m.keysOf(rec)
	return err
}

// keysOf is what the guest is told of the keys. VMs of an earlier version get
// theirs here, and so does one whose keys a crash of the host has cut off.
func (m *Manager) keysOf(rec banger.Record) (wire.SSH, error) {
	files := m.files(rec.ID)
	keys, err := sshkeys.Ensure(sshkeys.Files{
		Dir: files.SSH(), Host: files.SSHHostKey(), Client: files.SSHKey(), KnownHosts: files.SSHKnownHosts(),
	}, rec.Name+".vm")
	if err != nil {
		return wire.SSH{}, err
	}
	return wire.SSH{HostKey: keys.Host, Authorized: keys.Authorized}, m.linkKeys(rec)
}

// keysTarget is what the VM's link says, so that the state directory can be moved.
func (m *Manager) keysTarget(rec banger.Record) string {
	target, err := filepath.Rel(m.Layout.SSH(), m.files(rec.ID).SSH())
	if err != nil {
		return m.files(rec.ID).SSH()
	}
	return target
}

func (m *Manager) linkKeys(rec banger.Record) error {
	link, target := m.Layout.SSHLink(rec.Name), m.keysTarget(rec)
	if have, err := os.Readlink(link); err == nil && have == target {
		return nil
	}
	if err := os.MkdirAll(m.Layout.SSH(), 0o700); err != nil {
		return err
	}
	tmp := filepath.Join(m.Layout.SSH(), "."+rec.ID)
	if err := removeFile(tmp); err != nil {
		return err
	}
	if err := os.Symlink(target, tmp); err != nil {
		return err
	}
	return os.Rename(tmp, link)
}

// unlinkKeys removes the link while it is this VM's.
func (m *Manager) unlinkKeys(rec banger.Record) error {
	link := m.Layout.SSHLink(rec.Name)
	if have, err := os.Readlink(link); err != nil || have != m.keysTarget(rec) {
		return nil
	}
	return removeFile(link)
}

// sweepKeys removes links that lead to no VM, and restores those that are
// missing of VMs that have keys.
func (m *Manager) sweepKeys(ctx context.Context) error {
	all, err := m.Rows.List(ctx, m.Owner)
	if err != nil {
		return err
	}
	targets := map[string]string{}
	var errs []error
	for _, rec := range all {
		targets[rec.Name+".vm"] = m.keysTarget(rec)
		if _, err := os.Stat(m.files(rec.ID).SSH()); err == nil {
			errs = append(errs, m.linkKeys(rec))
		}
	}
	entries, err := os.ReadDir(m.Layout.SSH())
	if errors.Is(err, fs.ErrNotExist) {
		return errors.Join(errs...)
	}
	for _, e := range entries {
		name := filepath.Join(m.Layout.SSH(), e.Name())
		cutOff := strings.HasPrefix(e.Name(), ".") && banger.IsID(e.Name()[1:])
		stray := strings.HasSuffix(e.Name(), ".vm") && targets[e.Name()] == ""
		if e.Type()&fs.ModeSymlink != 0 && (cutOff || stray) {
			errs = append(errs, removeFile(name))
		}
	}
	return errors.Join(append(errs, err)...)
}
