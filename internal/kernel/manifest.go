package kernel

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"banger.dev/banger"
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
	Package     string           `json:"package,omitempty"` // of what was pulled
	Version     string           `json:"version,omitempty"`
	DebSHA256   string           `json:"deb_sha256"`        // of the source, which need not be one .deb
	Modules     int              `json:"modules,omitempty"` // how many; earlier bangers did not say
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
		Digest: m.Digest, Release: m.Release, Source: m.Source, SourceDigest: "sha256:" + m.DebSHA256, ModuleCount: m.Modules, Created: m.Created,
		VMLinux: filepath.Join(dir, fileVMLinux), Initramfs: filepath.Join(dir, fileInitramfs), Modules: filepath.Join(dir, fileModules),
	}, m, nil
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
