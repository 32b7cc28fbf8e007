package agent

import (
	"io"
	"os"
	"runtime"
	"syscall"
	"unsafe"
)

// rawPort reads and writes a non-blocking port with raw system calls, many to a
// turn. The runtime's own calls tell its scheduler first, which then takes the
// processor away from a thread that is long in the kernel; under emulation
// every call is long, and the threads would spend their time on handing the one
// processor round. The calls cannot block, so the scheduler need not know.
type rawPort struct {
	file *os.File
	conn syscall.RawConn
}

func newRawPort(file *os.File) (*rawPort, error) {
	conn, err := file.SyscallConn()
	if err != nil {
		return nil, err
	}
	return &rawPort{file: file, conn: conn}, nil
}

// Read fills p as far as the port has bytes, which come 4 KiB to a call.
func (p *rawPort) Read(b []byte) (n int, err error) {
	if len(b) == 0 {
		return 0, nil
	}
	ended := false
	perr := p.conn.Read(func(fd uintptr) bool {
		for n < len(b) {
			m, errno := rawIO(syscall.SYS_READ, fd, b[n:])
			switch {
			case errno == syscall.EINTR:
				continue
			case errno == syscall.EAGAIN:
				return n > 0
			case errno != 0:
				err = errno
				return true
			case m == 0:
				ended = true
				return true
			}
			n += m
		}
		return true
	})
	switch {
	case n > 0:
		return n, nil
	case perr != nil:
		return 0, perr
	case err == nil && ended:
		return 0, io.EOF
	}
	return 0, err
}

// Write writes all of b.
func (p *rawPort) Write(b []byte) (n int, err error) {
	perr := p.conn.Write(func(fd uintptr) bool {
		for n < len(b) {
			m, errno := rawIO(syscall.SYS_WRITE, fd, b[n:])
			switch {
			case errno == syscall.EINTR:
				continue
			case errno == syscall.EAGAIN || errno == 0 && m == 0:
				return false
			case errno != 0:
				err = errno
				return true
			}
			n += m
		}
		return true
	})
	if err == nil {
		err = perr
	}
	return n, err
}

func (p *rawPort) Close() error { return p.file.Close() }

func rawIO(call, fd uintptr, b []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(call, fd, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	runtime.KeepAlive(b)
	return int(n), errno
}
