package boot

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"banger.dev/banger/internal/agent/wire"
)

const sysroot = "/sysroot"

// switchRoot mounts the root disk and makes it the root directory. From here on
// every path is resolved inside the image, links included.
func switchRoot(console Console, config wire.Config) error {
	device := "/dev/" + config.Root
	if err := waitFor(device); err != nil {
		return err
	}
	if err := mountDisk(console, device, sysroot); err != nil {
		return err
	}
	emptyInitramfs()
	if err := os.Chdir(sysroot); err != nil {
		return err
	}
	_ = unix.Unmount("/dev", unix.MNT_DETACH)
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("moving the root disk to /: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("chroot: %w", err)
	}
	return os.Chdir("/")
}

// mountDisk mounts an ext4 disk and lets its file system fill it.
func mountDisk(console Console, device, at string) error {
	// The tables of inodes are left to be written when they are needed:
	// otherwise an idle guest fills its overlay with zeros.
	if err := mountAt(device, at, "ext4", 0, "noinit_itable"); err != nil {
		return fmt.Errorf("%s has no ext4 file system that can be mounted: %w", device, err)
	}
	if err := grow(device, at); err != nil {
		console.Note("%s keeps its size: %v", device, err)
	}
	return nil
}

// mountAt mounts, making the mount point where there is none.
func mountAt(source, target, fstype string, flags uintptr, data string) error {
	err := unix.Mount(source, target, fstype, flags, data)
	if err == unix.ENOENT {
		if err := os.MkdirAll(target, 0o755); err != nil {
			return err
		}
		err = unix.Mount(source, target, fstype, flags, data)
	}
	if err != nil {
		return fmt.Errorf("mounting %s on %s: %w", fstype, target, err)
	}
	return nil
}

// emptyInitramfs frees the memory of what has been loaded: modules, and the
// agent's name; the agent itself stays while it runs.
func emptyInitramfs() {
	entries, _ := os.ReadDir("/")
	for _, e := range entries {
		switch name := "/" + e.Name(); name {
		case sysroot, "/dev", "/proc", "/sys":
		default:
			_ = os.RemoveAll(name)
		}
	}
}

// The parts of an ext4 super block that tell its size; offsets from its start.
const (
	superBlock      = 1024
	sbBlocksLow     = 0x04
	sbLogBlockSize  = 0x18
	sbMagic         = 0x38
	sbIncompat      = 0x60
	sbBlocksHigh    = 0x150
	incompat64bit   = 0x80
	ext4Magic       = 0xEF53
	ext4ResizeFS    = 0x40086610 // _IOW('f', 16, __u64)
	ext4AllocDABlks = 0x660c     // _IO('f', 12)
)

// How long the kernel may take to hear that a disk has become larger, and how
// often it is asked.
const (
	growTimeout = 5 * time.Second
	growPoll    = 20 * time.Millisecond
)

// GrowRoot makes the root file system as large as its disk, once that has the
// size that the host has given it.
func GrowRoot(config wire.Config, bytes uint64) error {
	device := "/dev/" + config.Root
	for deadline := time.Now().Add(growTimeout); ; time.Sleep(growPoll) {
		size, err := deviceSize(device)
		if err != nil {
			return err
		}
		if size >= bytes {
			return grow(device, "/")
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s still has %d bytes, not %d", device, size, bytes)
		}
	}
}

func deviceSize(device string) (bytes uint64, err error) {
	disk, err := os.Open(device)
	if err != nil {
		return 0, err
	}
	defer func() { _ = disk.Close() }()
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, disk.Fd(), unix.BLKGETSIZE64, uintptr(unsafe.Pointer(&bytes))); errno != 0 {
		return 0, fmt.Errorf("the size of %s: %w", device, errno)
	}
	return bytes, nil
}

// grow makes the mounted ext4 file system as large as its device, if the device
// has become larger.
func grow(device, at string) error {
	bytes, err := deviceSize(device)
	if err != nil {
		return err
	}
	disk, err := os.Open(device)
	if err != nil {
		return err
	}
	defer func() { _ = disk.Close() }()
	var sb [1024]byte
	if _, err := disk.ReadAt(sb[:], superBlock); err != nil {
		return err
	}
	have, size, ok := ext4Size(sb[:])
	if !ok || bytes/size <= have {
		return nil
	}
	dir, err := os.Open(filepath.Clean(at))
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	want := bytes / size
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, dir.Fd(), ext4ResizeFS, uintptr(unsafe.Pointer(&want))); errno != 0 {
		return fmt.Errorf("growing the file system to %d blocks: %w", want, errno)
	}
	return nil
}

// ext4Size reads the number of blocks and their size from a super block.
func ext4Size(sb []byte) (blocks, size uint64, ok bool) {
	le := binary.LittleEndian
	shift := le.Uint32(sb[sbLogBlockSize:])
	if le.Uint16(sb[sbMagic:]) != ext4Magic || shift > 6 {
		return 0, 0, false
	}
	blocks = uint64(le.Uint32(sb[sbBlocksLow:]))
	if le.Uint32(sb[sbIncompat:])&incompat64bit != 0 {
		blocks |= uint64(le.Uint32(sb[sbBlocksHigh:])) << 32
	}
	return blocks, 1024 << shift, true
}
