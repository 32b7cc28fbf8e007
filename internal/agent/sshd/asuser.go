package sshd

import (
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"banger.dev/banger/internal/agent/users"
)

// asUser runs f as id, also to whoever asks a socket for its peer, and with the
// umask 077. Both are a thread's own, and the thread ends with f: f must not go
// to another goroutine for what needs them.
func asUser(id users.Identity, f func() error) error {
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
	if os.Getuid() != 0 {
		return nil // nobody else can be let in
	}
	groups := append([]uint32{id.GID}, id.Groups...)
	// Raw: Go's own would change every thread.
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(&groups[0])), 0); errno != 0 {
		return os.NewSyscallError("setgroups", errno)
	}
	for _, set := range []struct {
		name   string
		call   uintptr
		effect uint32
	}{{"setresgid", unix.SYS_SETRESGID, id.GID}, {"setresuid", unix.SYS_SETRESUID, id.UID}} {
		if _, _, errno := unix.RawSyscall(set.call, ^uintptr(0), uintptr(set.effect), ^uintptr(0)); errno != 0 {
			return os.NewSyscallError(set.name, errno)
		}
	}
	return nil
}
