// Package sshkeys makes the ssh keys of a VM: the one its server shows, the one
// it lets in, and the known_hosts by which ssh checks the first. It knows
// nothing of VMs and runs no ssh.
package sshkeys

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"
)

// Files is where the keys are: three files in Dir.
type Files struct{ Dir, Host, Client, KnownHosts string }

// Keys is what the server has to be told.
type Keys struct {
	Host       string // its private key
	Authorized string // whom it lets in, as authorized_keys has it
}

// Ensure gives the keys in f, and makes them anew where any is missing or
// damaged. host is the name that known_hosts has. Nothing is synced: a crash of
// the machine costs keys that are made again, and every boot would pay for it.
func Ensure(f Files, host string) (Keys, error) {
	if keys, err := read(f, host); err == nil {
		return keys, nil
	}
	if err := create(f, host); err != nil {
		return Keys{}, fmt.Errorf("ssh keys: %w", err)
	}
	return read(f, host)
}

func read(f Files, host string) (Keys, error) {
	hostKey, hostSigner, err := readKey(f.Host)
	if err != nil {
		return Keys{}, err
	}
	_, clientSigner, err := readKey(f.Client)
	if err != nil {
		return Keys{}, err
	}
	known, err := os.ReadFile(f.KnownHosts)
	if err != nil {
		return Keys{}, err
	}
	if want := knownHosts(host, hostSigner.PublicKey()); !bytes.Equal(known, want) {
		return Keys{}, fmt.Errorf("%s has not this host's key", f.KnownHosts)
	}
	return Keys{Host: string(hostKey), Authorized: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(clientSigner.PublicKey())))}, nil
}

func readKey(file string) ([]byte, ssh.Signer, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, nil, err
	}
	signer, err := ssh.ParsePrivateKey(b)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", file, err)
	}
	return b, signer, nil
}

// create puts a whole directory in the place of Dir.
func create(f Files, host string) error {
	tmp := f.Dir + ".new" // one verb at a time has a VM
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	if err := os.MkdirAll(tmp, 0o700); err != nil {
		return err
	}
	public, err := writeKey(filepath.Join(tmp, filepath.Base(f.Host)), host)
	if err != nil {
		return err
	}
	if _, err := writeKey(filepath.Join(tmp, filepath.Base(f.Client)), "banger"); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(tmp, filepath.Base(f.KnownHosts)), knownHosts(host, public), 0o600); err != nil {
		return err
	}
	if err := os.RemoveAll(f.Dir); err != nil {
		return err
	}
	return os.Rename(tmp, f.Dir)
}

func writeKey(file, comment string) (ssh.PublicKey, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, comment)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		return nil, err
	}
	return ssh.NewPublicKey(public)
}

func knownHosts(host string, key ssh.PublicKey) []byte {
	return append([]byte(host+" "), ssh.MarshalAuthorizedKey(key)...)
}
