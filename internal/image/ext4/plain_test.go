package ext4_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"banger.dev/banger/internal/userns"
)

// TestAsPlainUser runs this package's tests again as a user with subordinate
// ids that is made for it. On a laptop they run as a plain user anyhow.
func TestAsPlainUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("this is a plain user")
	}
	if os.Getenv("CI") != "true" {
		t.Skip("only under CI=true does a test make a user")
	}
	need(t, "useradd", "userdel", "newuidmap", "newgidmap")
	uid, gid := makeUser(t)
	dir, err := os.MkdirTemp("/var/tmp", "banger-ext4-test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	binary := filepath.Join(dir, "ext4.test")
	copySelf(t, binary)
	if err := os.Chown(dir, uid, gid); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "-test.v")
	cmd.Dir = dir
	cmd.Env = []string{"CI=true", "TMPDIR=" + dir, "PATH=/usr/bin:/bin", "HOME=" + dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("as uid %d: %v\n%s", uid, err, out)
	}
	only(t, dir, "ext4.test")
}

// makeUser makes a user for the time of a test; useradd gives it subordinate ids.
func makeUser(t *testing.T) (uid, gid int) {
	t.Helper()
	name := fmt.Sprintf("bngtest%d", os.Getpid())
	call(t, "useradd", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin", name)
	t.Cleanup(func() { call(t, "userdel", name) })
	u, err := user.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	return uid, gid
}

func call(t *testing.T, program string, args ...string) {
	t.Helper()
	path, err := userns.Find(program, "passwd")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(path, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", program, err, out)
	}
}

// copySelf copies the running test binary, whose directory others cannot enter.
func copySelf(t *testing.T, to string) {
	t.Helper()
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = self.Close() }()
	f, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(f, self); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
