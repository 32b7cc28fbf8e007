package kernel

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/replace"
)

// Names in a kernel's directory.
const (
	fileVMLinux     = "vmlinux"
	fileInitramfs   = "initramfs.cpio"
	fileBootModules = "boot-modules.cpio" // the initramfs without the agent
	fileModules     = "modules.ext4"
	fileConfig      = "config"
	fileManifest    = "manifest.json"
)

// manifest is manifest.json: what a kernel is and was made from. It is the last
// file written.
type manifest struct {
	Format      int              `json:"format"`
	Digest      string           `json:"digest"` // sha256:<64 hex>
	Release     string           `json:"release"`
	Source      string           `json:"source"`
	Package     string           `json:"package"`
	Version     string           `json:"version"`
	DebSHA256   string           `json:"deb_sha256"`
	AgentSHA256 string           `json:"agent_sha256"`
	Created     time.Time        `json:"created"`
	Sizes       map[string]int64 `json:"sizes"` // of the other files, in bytes
}

// open reads one kernel of the store and checks that its files are there in
// full length.
func (s *Store) open(name string) (banger.Kernel, manifest, error) {
	dir := filepath.Join(s.dir, name)
	var m manifest
	if err := readJSON(filepath.Join(dir, fileManifest), &m); err != nil {
		return banger.Kernel{}, m, err
	}
	if m.Digest != "sha256:"+name {
		return banger.Kernel{}, m, fmt.Errorf("%s says it is %s", dir, m.Digest)
	}
	for _, file := range []string{fileVMLinux, fileInitramfs, fileBootModules, fileModules, fileConfig} {
		info, err := os.Stat(filepath.Join(dir, file))
		if err != nil {
			return banger.Kernel{}, m, err
		}
		if !info.Mode().IsRegular() || info.Size() != m.Sizes[file] {
			return banger.Kernel{}, m, fmt.Errorf("%s/%s has %d bytes instead of %d", dir, file, info.Size(), m.Sizes[file])
		}
	}
	return banger.Kernel{
		Digest: m.Digest, Release: m.Release, Source: m.Source, Created: m.Created,
		VMLinux: filepath.Join(dir, fileVMLinux), Initramfs: filepath.Join(dir, fileInitramfs), Modules: filepath.Join(dir, fileModules),
	}, m, nil
}

// sibling finds a kernel of this builder made of the same package with another agent.
func (s *Store) sibling(debSHA256 string) (manifest, bool) {
	entries, _ := os.ReadDir(s.dir)
	for _, e := range entries {
		if len(e.Name()) != 64 {
			continue
		}
		if _, m, err := s.open(e.Name()); err == nil && m.Format == format && m.DebSHA256 == debSHA256 {
			return m, true
		}
	}
	return manifest{}, false
}

// ref is refs/debian-<suite>.json: the package that was the newest when the
// archive was last asked.
type ref struct {
	Package   string    `json:"package"`
	Version   string    `json:"version"`
	DebSHA256 string    `json:"deb_sha256"`
	Resolved  time.Time `json:"resolved"`
}

func (s *Store) refName() string { return "debian-" + s.apt.Suite() }

func (s *Store) refFile() string {
	return filepath.Join(s.dir, "refs", s.refName()+".json")
}

func (s *Store) readRef() (ref, error) {
	var r ref
	err := readJSON(s.refFile(), &r)
	if err == nil && len(r.DebSHA256) != 64 {
		err = errors.New(s.refFile() + " has no sha256")
	}
	return r, err
}

// writeRef replaces the ref. Its lock is held.
func (s *Store) writeRef(r ref) error {
	if err := os.MkdirAll(filepath.Dir(s.refFile()), 0o755); err != nil {
		return err
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := replace.File(s.refFile(), append(data, '\n'), 0o644); err != nil {
		return err
	}
	return syncDir(filepath.Dir(s.refFile()))
}

// maxJSON bounds the two files.
const maxJSON = 1 << 20

func readJSON(file string, into any) error {
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	if info.Size() > maxJSON {
		return fmt.Errorf("%s is too large", file)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// sourceOf says for people where a package came from.
func sourceOf(suite string, r ref) string {
	return strings.Join([]string{"debian", suite, r.Package, r.Version}, " ")
}
