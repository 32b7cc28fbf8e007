package boot

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"banger.dev/banger/internal/agent/users"
	"banger.dev/banger/internal/agent/wire"
)

func write(t *testing.T, name, content string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, mode); err != nil {
		t.Fatal(err)
	}
}

func stat(t *testing.T, name string) *syscall.Stat_t {
	t.Helper()
	info, err := os.Lstat(name)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t)
}

func TestCopyTreeKeepsEverything(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	write(t, from+"/plain", "text", 0o640)
	write(t, from+"/tool", "#!", 0o755|os.ModeSetuid)
	write(t, from+"/deep/er/file", "x", 0o600)
	write(t, from+"/a name\nwith everything\xff", "", 0o644)
	for _, err := range []error{
		os.Symlink("/no/where", from+"/dangling"),
		os.Link(from+"/plain", from+"/deep/same"),
		unix.Mkfifo(from+"/fifo", 0o622),
		os.Chmod(from+"/deep", 0o700|os.ModeSticky),
		os.Truncate(from+"/deep/er/file", 64<<20), // nearly all hole
		unix.UtimesNanoAt(unix.AT_FDCWD, from+"/plain", []unix.Timespec{{Sec: 1}, {Sec: 1234567890, Nsec: 5}}, 0),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	root := os.Getuid() == 0
	if root {
		if err := os.Lchown(from+"/dangling", 12, 34); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(from+"/tool", 1000, 1001); err != nil { // clears setuid
			t.Fatal(err)
		}
		if err := os.Chmod(from+"/tool", 0o755|os.ModeSetuid); err != nil {
			t.Fatal(err)
		}
	}
	xattrs := unix.Lsetxattr(from+"/plain", "user.note", []byte("kept\x00too"), 0) == nil
	if err := copyTree(from, to); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "/plain", "/tool", "/deep", "/deep/er", "/deep/er/file", "/a name\nwith everything\xff", "/dangling", "/fifo"} {
		a, b := stat(t, from+name), stat(t, to+name)
		if a.Mode != b.Mode || a.Uid != b.Uid || a.Gid != b.Gid || a.Mode&syscall.S_IFMT == syscall.S_IFREG && (a.Size != b.Size || a.Mtim != b.Mtim) {
			t.Errorf("%q: %+v became %+v", name, a, b)
		}
	}
	if b, err := os.ReadFile(to + "/plain"); err != nil || string(b) != "text" {
		t.Errorf("plain: %q, %v", b, err)
	}
	if link, err := os.Readlink(to + "/dangling"); err != nil || link != "/no/where" {
		t.Errorf("link: %q, %v", link, err)
	}
	if stat(t, to+"/plain").Ino != stat(t, to+"/deep/same").Ino {
		t.Error("a hard link became a copy")
	}
	if blocks := stat(t, to+"/deep/er/file").Blocks; blocks > 1024 {
		t.Errorf("a hole takes %d blocks", blocks)
	}
	if value := make([]byte, 64); xattrs {
		if n, err := unix.Lgetxattr(to+"/plain", "user.note", value); err != nil || string(value[:n]) != "kept\x00too" {
			t.Errorf("attribute: %q, %v", value[:max(n, 0)], err)
		}
	}
}

func TestSeedBeginsAnewAfterACrash(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/from/file", "whole", 0o644)
	write(t, dir+"/.seed-x/fi", "torn", 0o644) // as a copy that was cut short leaves it
	if err := seed(dir+"/from", dir+"/.seed-x", dir+"/x"); err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(dir + "/x/*")
	if err != nil || !slices.Equal(names, []string{dir + "/x/file"}) {
		t.Errorf("%q, %v", names, err)
	}
	if _, err := os.Stat(dir + "/.seed-x"); !os.IsNotExist(err) {
		t.Errorf("the beginning of a copy is left: %v", err)
	}
}

func TestWorkDirs(t *testing.T) {
	root := t.TempDir()
	write(t, root+"/etc/passwd", "app:x:5:5::/app:\ndaemon:x:1:1::/usr/sbin:\npg:x:6:6::/var/lib/pg/:\nann:x:7:7::/home/ann:\nbad:x:8:8::/var/run/x:\nup:x:9:9::/app/../etc:\nnone:x:10:10:::\n", 0o644)
	for user, want := range map[string]string{"": "", "app": "/app", "5": "/app", "daemon": "", "pg": "/var/lib/pg", "ann": "", "bad": "", "up": "", "none": "", "zoe": "", "77": "", "root": ""} {
		got := workDirs(wire.Config{User: user}, &users.DB{Root: root})
		if extra := strings.Join(got[2:], ","); extra != want || got[0] != "/root" || got[1] != "/home" {
			t.Errorf("%q: %q", user, got)
		}
	}
}

func TestMakeTargetFollowsLinks(t *testing.T) {
	dir := t.TempDir()
	for _, err := range []error{
		os.Mkdir(dir+"/etc", 0o755),
		os.Symlink("../run/resolve/stub.conf", dir+"/etc/resolv.conf"),
		os.Symlink(dir+"/etc/b", dir+"/etc/a"), os.Symlink(dir+"/etc/a", dir+"/etc/b"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := makeTarget(dir + "/etc/resolv.conf"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir + "/run/resolve/stub.conf"); err != nil {
		t.Error(err)
	}
	if err := makeTarget(dir + "/etc/a"); err == nil {
		t.Error("a loop has an end")
	}
	if err := makeTarget(dir + "/new/file"); err != nil {
		t.Error(err)
	}
}

func TestBlank(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/empty", "", 0o644)
	write(t, dir+"/space", " \n\t\n", 0o644)
	write(t, dir+"/text", "x\n", 0o644)
	for name, want := range map[string]bool{"none": true, "empty": true, "space": true, "text": false} {
		if got := blank(filepath.Join(dir, name)); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestExt4Size(t *testing.T) {
	sb := make([]byte, 1024)
	if _, _, ok := ext4Size(sb); ok {
		t.Error("zeros were taken for a file system")
	}
	sb[sbMagic], sb[sbMagic+1] = 0x53, 0xEF
	sb[sbLogBlockSize], sb[sbBlocksLow], sb[sbBlocksHigh] = 2, 7, 1
	if blocks, size, ok := ext4Size(sb); !ok || blocks != 7 || size != 4096 {
		t.Errorf("%d × %d, %v", blocks, size, ok)
	}
	sb[sbIncompat] = incompat64bit
	if blocks, _, ok := ext4Size(sb); !ok || blocks != 1<<32+7 {
		t.Errorf("64 bit: %d, %v", blocks, ok)
	}
	sb[sbLogBlockSize] = 200
	if _, _, ok := ext4Size(sb); ok {
		t.Error("a block size that cannot be")
	}
}

func TestModuleListIsOptional(t *testing.T) {
	dir := t.TempDir()
	if err := loadModules(dir); err != nil {
		t.Error(err)
	}
	write(t, dir+"/order", "# none\n\n", 0o644)
	if err := loadModules(dir); err != nil {
		t.Error(err)
	}
	write(t, dir+"/order", "missing.ko\n", 0o644)
	if err := loadModules(dir); err == nil || !strings.Contains(err.Error(), dir+"/missing.ko") {
		t.Errorf("%v", err)
	}
}

func TestReadConfigSaysWhichDisk(t *testing.T) {
	name := filepath.Join(t.TempDir(), "disk")
	write(t, name, "no config", 0o600)
	if _, err := readConfig(name); err == nil || !strings.Contains(err.Error(), name) {
		t.Errorf("%v", err)
	}
	disk, err := wire.EncodeConfig(wire.Config{Name: "box"})
	if err != nil {
		t.Fatal(err)
	}
	write(t, name, string(disk), 0o600)
	if c, err := readConfig(name); err != nil || c.Name != "box" {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestConsoleLines(t *testing.T) {
	name := filepath.Join(t.TempDir(), "console")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	c := Console{File: f}
	c.Stage(wire.StageRoot)
	c.Note("%s is odd", "it")
	_ = f.Close()
	if b, err := os.ReadFile(name); err != nil || !bytes.Equal(b, []byte("banger: stage root\nbanger: note: it is odd\n")) {
		t.Errorf("%q, %v", b, err)
	}
}

func TestUnescape(t *testing.T) {
	if got := unescape(`/a\040b\134c`); got != `/a b\c` {
		t.Errorf("%q", got)
	}
}
