package doctor

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"banger.dev/banger"
	"banger.dev/banger/internal/paths"
)

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// nearest is path, or the closest directory above it that is there.
func nearest(path string) string {
	for !exists(path) && path != filepath.Dir(path) {
		path = filepath.Dir(path)
	}
	return path
}

// home says whether what a home needs can be written.
func (e Examiner) home() banger.Check {
	for _, dir := range []string{e.Layout.State, e.Layout.Run, e.Layout.Cache} {
		at := nearest(dir)
		err := unix.Access(at, unix.W_OK|unix.X_OK)
		if info, serr := os.Stat(at); serr == nil && !info.IsDir() {
			err = unix.ENOTDIR
		}
		if err != nil {
			return banger.CheckOf("home", banger.Errorf(banger.KindUnavailable, "%s cannot be written: %w", at, err).WithNext("ls -ld %s", at), "")
		}
	}
	return banger.CheckOf("home", nil, e.Layout.State+" can be written")
}

// sockets says whether a VM's sockets can be where they belong.
func (e Examiner) sockets() banger.Check {
	longest := e.Layout.VM("0123456789abcdef").MonitorSocket()
	if over := len(longest) - paths.MaxSocket; over > 0 {
		return banger.CheckOf("sockets", banger.Errorf(banger.KindInvalid, "%s is %d bytes too long for a unix socket", longest, over).
			WithNext("set BANGER_HOME to a shorter path"), "")
	}
	return banger.CheckOf("sockets", nil, fmt.Sprintf("the longest path has %d of %d bytes", len(longest), paths.MaxSocket))
}

// minSpace is what a VM, and the making of an image, may need at once.
const minSpace = banger.GiB

// space says whether the disk below dir has some left.
func (e Examiner) space(what, dir string) banger.Check {
	name := what + "-space"
	var st unix.Statfs_t
	if err := unix.Statfs(nearest(dir), &st); err != nil {
		return banger.CheckOf(name, fmt.Errorf("%s: %w", dir, err), "")
	}
	free := banger.Bytes(st.Bavail) * banger.Bytes(st.Bsize)
	if free < minSpace {
		return banger.CheckOf(name, banger.Errorf(banger.KindUnavailable, "%s has %s left, less than %s", dir, free, minSpace).
			WithNext("banger system df"), "")
	}
	return banger.CheckOf(name, nil, fmt.Sprintf("%s are free at %s", free/banger.MiB*banger.MiB, dir))
}

// reflink says whether files below dir can share blocks. Files without a name
// are tried: nothing is left, whatever happens.
func (e Examiner) reflink(what, dir string) banger.Check {
	name := what + "-reflink"
	if err := tryReflink(nearest(dir)); err != nil {
		return banger.Check{Name: name, Status: banger.CheckAbsent, Message: "files cannot share blocks at " + dir + ": " + err.Error() + "; qcow2 overlays do it"}
	}
	return banger.CheckOf(name, nil, "files can share blocks at "+dir)
}

func tryReflink(dir string) error {
	var fds [2]int
	for i := range fds {
		fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		fds[i] = fd
	}
	if _, err := unix.Write(fds[0], make([]byte, 4096)); err != nil {
		return err
	}
	return unix.IoctlFileClone(fds[1], fds[0])
}

// deviceMapper, tun and nftables are for root's disks and networks, which this
// banger does without.
func (e Examiner) deviceMapper() banger.Check {
	return e.rootOnly("device-mapper", "dev/mapper/control", "dmsetup", "dmsetup", "overlays are qcow2 files")
}

func (e Examiner) tun() banger.Check {
	return e.rootOnly("tun", "dev/net/tun", "", "", "the network of VMs is in user space")
}

func (e Examiner) nftables() banger.Check {
	return e.rootOnly("nftables", "", "nft", "nftables", "the network of VMs is in user space")
}

// rootOnly looks for a device and a program that are of use to root.
func (e Examiner) rootOnly(name, device, program, pkg, instead string) banger.Check {
	absent := func(why, next string) banger.Check {
		return banger.Check{Name: name, Status: banger.CheckAbsent, Message: why + "; " + instead, Next: next}
	}
	if e.UID != 0 {
		return absent("of use to root alone", "")
	}
	if device != "" && !exists(filepath.Join(e.Root, device)) {
		return absent("there is no /"+device, "")
	}
	if program == "" {
		return banger.CheckOf(name, nil, "/"+device+" is here")
	}
	path, err := e.Find(program)
	if err = missing(err, program, pkg); err != nil {
		return absent(err.Error(), banger.NextOf(err))
	}
	return banger.CheckOf(name, nil, path)
}
