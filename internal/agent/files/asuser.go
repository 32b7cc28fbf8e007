package files

import (
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"banger.dev/banger/internal/agent/users"
)

// asUser runs f with id's rights to files. They are a thread's own, and the
// thread ends with f. Only these rights change: with another uid the thread
// could get that user's signals, and with it the agent.
func asUser(id users.Identity, f func() error) error {
	if os.Getuid() != 0 || id.UID == 0 {
		return f() // nobody else can be let in, or need be
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
	groups := append([]uint32{id.GID}, id.Groups...)
	// Raw: Go's own would change every thread.
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(&groups[0])), 0); errno != 0 {
		return os.NewSyscallError("setgroups", errno)
	}
	_, _, _ = unix.RawSyscall(unix.SYS_SETFSGID, uintptr(id.GID), 0, 0)
	_, _, _ = unix.RawSyscall(unix.SYS_SETFSUID, uintptr(id.UID), 0, 0)
	// These two only say what was before, so they are asked again.
	if gid, _, _ := unix.RawSyscall(unix.SYS_SETFSGID, ^uintptr(0), 0, 0); uint32(gid) != id.GID {
		return os.NewSyscallError("setfsgid", unix.EPERM)
	}
	if uid, _, _ := unix.RawSyscall(unix.SYS_SETFSUID, ^uintptr(0), 0, 0); uint32(uid) != id.UID {
		return os.NewSyscallError("setfsuid", unix.EPERM)
	}
	return nil
}
