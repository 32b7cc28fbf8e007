package doctor

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"banger.dev/banger"
	"banger.dev/banger/internal/paths"
)

// keyring is a file that Debian's keys are in.
const keyring = "usr/share/keyrings/debian-archive-keyring.gpg"

// host is an Examiner for a host with these files and programs.
func host(t *testing.T, uid int, files []string, programs ...string) Examiner {
	t.Helper()
	root := t.TempDir()
	for _, file := range files {
		path := filepath.Join(root, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	find := func(program string) (string, error) {
		for _, p := range programs {
			if p == program {
				return "/bin/" + p, nil
			}
		}
		return "", exec.ErrNotFound
	}
	home := filepath.Join(root, "h")
	return Examiner{Root: root, UID: uid, Find: find, Layout: paths.Layout{State: home + "/state", Cache: home + "/cache", Run: home + "/run"}}
}

func TestChecks(t *testing.T) {
	cases := map[string]struct {
		uid      int
		files    []string
		programs []string
		cached   bool
		check    func(Examiner) banger.Check
		status   banger.CheckStatus
		says     string
		next     string
	}{
		"no QEMU":                {check: vmm, status: "failed", says: "QEMU is not installed", next: "sudo apt-get install qemu-system-x86"},
		"QEMU":                   {programs: []string{"qemu-system-x86_64"}, check: vmm, status: "ok", says: "/bin/qemu-system-x86_64"},
		"no mke2fs":              {check: Examiner.fileSystems, status: "failed", next: "sudo apt-get install e2fsprogs"},
		"mke2fs":                 {programs: []string{"mke2fs"}, check: Examiner.fileSystems, status: "ok"},
		"nothing to build with":  {programs: []string{"apt-get"}, check: Examiner.builders, status: "failed", says: "mmdebstrap", next: "sudo apt-get install mmdebstrap debian-archive-keyring"},
		"only the keys are gone": {programs: []string{"apt-get", "mmdebstrap"}, check: Examiner.builders, status: "failed", says: "/" + keyring, next: "sudo apt-get install debian-archive-keyring"},
		"no apt at all":          {check: Examiner.builders, status: "failed", says: "apt-get, mmdebstrap", next: ""},
		"built already":          {cached: true, check: Examiner.builders, status: "absent", says: "are here without"},
		"all to build with":      {files: []string{keyring}, programs: []string{"apt-get", "mmdebstrap"}, check: Examiner.builders, status: "ok"},
		"tun of root":            {files: []string{"dev/net/tun"}, check: Examiner.tun, status: "ok"},
		"tun of a plain user":    {uid: 1000, files: []string{"dev/net/tun"}, check: Examiner.tun, status: "absent", says: "root alone"},
		"no tun":                 {check: Examiner.tun, status: "absent", says: "no /dev/net/tun"},
		"no nftables":            {check: Examiner.nftables, status: "absent", next: "sudo apt-get install nftables"},
		"nftables":               {programs: []string{"nft"}, check: Examiner.nftables, status: "ok", says: "/bin/nft"},
		"no device-mapper":       {programs: []string{"dmsetup"}, check: Examiner.deviceMapper, status: "absent", says: "/dev/mapper/control"},
		"no dmsetup":             {files: []string{"dev/mapper/control"}, check: Examiner.deviceMapper, status: "absent", next: "sudo apt-get install dmsetup"},
		"device-mapper":          {files: []string{"dev/mapper/control"}, programs: []string{"dmsetup"}, check: Examiner.deviceMapper, status: "ok"},
		"namespaces of root":     {check: func(e Examiner) banger.Check { return e.userNamespaces(t.Context()) }, status: "ok"},
		"a home to be made":      {check: Examiner.home, status: "ok"},
		"sockets":                {check: Examiner.sockets, status: "ok", says: "of 107 bytes"},
		"space":                  {check: func(e Examiner) banger.Check { return e.space("state", e.Layout.State) }, status: "ok", says: "are free"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			e := host(t, c.uid, c.files, c.programs...)
			e.Cached = c.cached
			got := c.check(e)
			if got.Status != c.status || !strings.Contains(got.Message, c.says) || got.Next != c.next || got.Name == "" {
				t.Errorf("%+v", got)
			}
		})
	}
}

func vmm(e Examiner) banger.Check { return e.vmm(context.Background()) }

func TestAHomeThatCannotBeWrittenFails(t *testing.T) {
	e := host(t, 0, []string{"h"}) // a file where the home should be
	if c := e.home(); c.Status != banger.CheckFailed || c.Next != "ls -ld "+filepath.Join(e.Root, "h") {
		t.Errorf("%+v", c)
	}
}

func TestALongPathFails(t *testing.T) {
	e := host(t, 0, nil)
	e.Layout.Run = "/" + strings.Repeat("x", 90)
	if c := e.sockets(); c.Status != banger.CheckFailed || !strings.Contains(c.Message, "too long") {
		t.Errorf("%+v", c)
	}
}

// Whatever the file system can do, nothing is left of the trial.
func TestReflinkLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	e := host(t, 0, nil)
	if c := e.reflink("state", dir); c.Status == banger.CheckFailed {
		t.Errorf("%+v", c)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("%v, %v", left, err)
	}
}

func TestTheProfileAndTheVerdictFollowTheChecks(t *testing.T) {
	e := host(t, 1000, nil)
	if p := e.profile(banger.Check{Status: banger.CheckAbsent}); p != "rootless, emulated, qcow2 disks, user networking" {
		t.Error(p)
	}
	e.UID = 0
	if p := e.profile(banger.Check{Status: banger.CheckOK}); p != "root, KVM, qcow2 disks, user networking" {
		t.Error(p)
	}
	for name, c := range map[string]struct {
		report Report
		ok     bool
	}{
		"nothing wrong":  {Report{Checks: []banger.Check{{Status: "ok"}, {Status: "absent"}}, Strays: []banger.Stray{{Fixed: true}}}, true},
		"a failed check": {Report{Checks: []banger.Check{{Status: "ok"}, {Status: "failed"}}}, false},
		"a stray":        {Report{Strays: []banger.Stray{{}}}, false},
	} {
		if c.report.Judge(); c.report.OK != c.ok {
			t.Errorf("%s: %v", name, c.report.OK)
		}
	}
}
