package sshd

import (
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"banger.dev/banger/internal/agent/users"
)

// asUser runs f with id's rights to the file system, the umask 077 among them.
// Those are a thread's own: the thread ends with f. f must not go to another
// goroutine for what needs the rights.
func asUser(id users.Identity, f func() error) error {
	if id.UID == uint32(os.Getuid()) && (id.UID != 0 || id.GID == uint32(os.Getgid())) {
		return f()
	}
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is not to be used again
		if err := become(id); err != nil {
			result <- err
			return
		}
		result <- f()
	}()
	return <-result
}

func become(id users.Identity) error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	unix.Umask(0o077)
	groups := append([]uint32{id.GID}, id.Groups...)
	// Raw: Go's own would change every thread.
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(&groups[0])), 0); errno != 0 {
		return os.NewSyscallError("setgroups", errno)
	}
	_, _, _ = unix.RawSyscall(unix.SYS_SETFSGID, uintptr(id.GID), 0, 0)
	_, _, _ = unix.RawSyscall(unix.SYS_SETFSUID, uintptr(id.UID), 0, 0)
	// It answers with what was, and never with an error: ask once more.
	if was, _, _ := unix.RawSyscall(unix.SYS_SETFSUID, ^uintptr(0), 0, 0); uint32(was) != id.UID {
		return os.NewSyscallError("setfsuid", unix.EPERM)
	}
	return nil
}
