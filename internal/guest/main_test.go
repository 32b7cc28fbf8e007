package guest_test

import (
	"os"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"banger.dev/banger/internal/proc/proctest"
)

func TestMain(m *testing.M) {
	// As the agent does at its start: what the test was given is not for the
	// commands that it runs.
	_ = unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC)
	unix.Umask(0o022)
	proctest.HearSignals()
	// make starts its children by posix_spawn(3), with which glibc leaves its own
	// two signals ignored; a guest's PID 1 has them at their defaults.
	for _, signal := range []uintptr{32, 33} {
		var byDefault struct {
			handler, flags, restorer uintptr
			mask                     uint64
		}
		_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, signal, uintptr(unsafe.Pointer(&byDefault)), 0, unsafe.Sizeof(byDefault.mask), 0, 0)
	}
	os.Exit(m.Run())
}
