package sshd

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"banger.dev/banger/internal/agent/users"
)

func TestAsUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can be somebody else")
	}
	dir := t.TempDir()
	for _, d := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	alice := users.Identity{UID: 12345, GID: 12346, Groups: []uint32{12347}}
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := asUser(alice, func() error { _, err := os.ReadFile(secret); return err }); !errors.Is(err, os.ErrPermission) {
		t.Errorf("reading root's file: %v", err)
	}
	if err := os.Chown(secret, 0, 12347); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(secret, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := asUser(alice, func() error { _, err := os.ReadFile(secret); return err }); err != nil {
		t.Errorf("reading a group's file: %v", err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	made := filepath.Join(dir, "made")
	if err := asUser(alice, func() error { return os.WriteFile(made, nil, 0o666) }); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(made)
	if err != nil {
		t.Fatal(err)
	}
	if st := info.Sys().(*syscall.Stat_t); st.Uid != 12345 || st.Gid != 12346 || info.Mode().Perm() != 0o600 {
		t.Errorf("made with uid %d, gid %d, mode %v", st.Uid, st.Gid, info.Mode())
	}
	if _, err := os.ReadFile(secret); err != nil {
		t.Errorf("back as root: %v", err)
	}
}
