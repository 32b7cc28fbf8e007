package doctor

import (
	"bytes"
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/userns"
)

// hypervisor says whether VMs run on the CPU itself.
func (e Examiner) hypervisor() banger.Check {
	if err := kvm(cpuFlags()); err != nil {
		return banger.Check{Name: "kvm", Status: banger.CheckAbsent, Message: err.Error() + "; VMs are emulated, which takes several times as long"}
	}
	return banger.Check{Name: "kvm", Status: banger.CheckOK, Message: "/dev/kvm runs guests"}
}

// versionTimeout bounds `qemu --version`, whose file a host may have to read
// while it does much else.
const versionTimeout = time.Minute

func (e Examiner) vmm(ctx context.Context) banger.Check {
	path, err := e.Find(qemuProgram)
	if err != nil {
		return banger.CheckOf("qemu", noQEMU(), "")
	}
	return banger.CheckOf("qemu", nil, strings.TrimSpace("version "+Version(ctx, path))+" at "+path)
}

// Version is what QEMU at path says, such as 7.2.22, or "" if it does not say.
func Version(ctx context.Context, path string) string {
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return ""
	}
	_, rest, _ := bytes.Cut(out, []byte("version "))
	if fields := strings.Fields(string(rest)); len(fields) > 0 {
		return fields[0]
	}
	return ""
}

// userNamespaces says whether a plain user can be root of a namespace, which
// making file systems takes, and has ids for the files of an image.
func (e Examiner) userNamespaces(ctx context.Context) banger.Check {
	const name = "user-namespaces"
	if e.UID == 0 {
		return banger.CheckOf(name, nil, "not needed by root")
	}
	program := userns.Command{Argv: []string{"/bin/true"}, Alone: true}
	if err := program.Run(ctx); err != nil {
		return banger.CheckOf(name, err, "")
	}
	return e.optional(name, userns.Check(), "they can be made, with subordinate ids")
}

// optional is a check of what only makes images and kernels.
func (e Examiner) optional(name string, err error, found string) banger.Check {
	c := banger.CheckOf(name, err, found)
	if err != nil && e.Cached {
		c.Status = banger.CheckAbsent
		c.Message += "; image and kernel are here without"
	}
	return c
}

func (e Examiner) fileSystems() banger.Check {
	path, err := e.Find("mke2fs")
	return banger.CheckOf("e2fsprogs", missing(err, "mke2fs", "e2fsprogs"), path)
}

// builders are what the default image and kernel are made with.
func (e Examiner) builders() banger.Check {
	var need, absent []string
	for _, p := range [][2]string{{"apt-get", "apt"}, {"mmdebstrap", "mmdebstrap"}} {
		if _, err := e.Find(p[0]); err != nil {
			need, absent = append(need, p[1]), append(absent, p[0])
		}
	}
	const keyring = "usr/share/keyrings/debian-archive-keyring.gpg"
	if !exists(filepath.Join(e.Root, keyring)) {
		need, absent = append(need, "debian-archive-keyring"), append(absent, "/"+keyring)
	}
	const name = "image-tools"
	if len(need) == 0 {
		return banger.CheckOf(name, nil, "the default image and kernel can be made")
	}
	err := banger.Errorf(banger.KindUnavailable, "the default image and kernel cannot be made without %s", strings.Join(absent, ", "))
	if _, apt := e.Find("apt-get"); apt != nil {
		return e.optional(name, err, "") // another distribution: there is nothing to type
	}
	return e.optional(name, err.WithNext("sudo apt-get install %s", strings.Join(need, " ")), "")
}

// missing is the error for a program that was not found.
func missing(err error, program, pkg string) error {
	if err == nil {
		return nil
	}
	return banger.Errorf(banger.KindUnavailable, "%s is not installed", program).WithNext("sudo apt-get install %s", pkg)
}
