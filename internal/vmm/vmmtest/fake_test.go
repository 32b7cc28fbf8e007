package vmmtest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"banger.dev/banger"
	"banger.dev/banger/internal/vmm"
	"banger.dev/banger/internal/vmm/vmmtest"
)

func TestMain(m *testing.M) { os.Exit(vmmtest.Main(m, vmmtest.Fake{})) }

func TestFake(t *testing.T) { vmmtest.Suite(t, fake) }

func fake(t *testing.T) vmmtest.Subject {
	t.Helper()
	binary, err := exec.LookPath("cat")
	if err != nil {
		t.Fatal(err)
	}
	kernel := filepath.Join(t.TempDir(), "kernel")
	if err := os.WriteFile(kernel, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return vmmtest.Subject{
		Driver:      vmmtest.Fake{},
		Config:      vmm.Config{ID: "0123456789abcdef", Binary: binary, VCPUs: 1, Memory: banger.MiB, Kernel: kernel, Initramfs: kernel},
		Refuse:      func(c *vmm.Config) { c.Machine = vmmtest.RefusedMachine },
		ObeysButton: true,
	}
}
