package user

import (
	"errors"
	"io"
	"os"
	"syscall"
	"unsafe"
)

// The descriptors here do not block, so the runtime need not be told of their
// system calls. That saves more than it seems: at the first call that it is told
// of after a rest it wakes a thread that watches over the others, which on a busy
// host costs a packet its turn.

// readNow reads what is there; EAGAIN says that nothing is.
func readNow(fd uintptr, p []byte) (int, error) { return now(syscall.SYS_READ, fd, p) }

// writeNow writes what there is room for; EAGAIN says that there is none.
func writeNow(fd uintptr, p []byte) (int, error) { return now(syscall.SYS_WRITE, fd, p) }

func now(call, fd uintptr, p []byte) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall(call, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
		switch errno {
		case 0:
			return int(n), nil
		case syscall.EINTR:
		default:
			return 0, errno
		}
	}
}

// waiting reads from a descriptor, and waits while there is nothing.
type waiting struct{ syscall.RawConn }

func (w waiting) Read(p []byte) (int, error) {
	var n int
	var err error
	werr := w.RawConn.Read(func(fd uintptr) bool {
		n, err = readNow(fd, p)
		return !errors.Is(err, syscall.EAGAIN)
	})
	switch {
	case errors.Is(werr, os.ErrDeadlineExceeded):
		return 0, werr
	case werr != nil:
		return 0, os.ErrClosed // the only other, whose own error cannot be asked for
	case n == 0 && err == nil:
		return 0, io.EOF
	}
	return n, err
}
