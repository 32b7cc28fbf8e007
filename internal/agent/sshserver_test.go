package agent

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// The server's program may have got any descriptor, also one that the server
// has something else at.
func TestTheServerIsStartedFromALowDescriptor(t *testing.T) {
	kept, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 10)
	if err != nil {
		t.Fatal(err)
	}
	something, err := os.Open("/bin/true")
	if err != nil {
		t.Skip(err)
	}
	defer something.Close()
	if err := unix.Dup3(int(something.Fd()), 0, unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	program := os.NewFile(0, "program")
	defer func() {
		_ = program.Close()
		_ = unix.Dup3(kept, 0, 0)
		_ = unix.Close(kept)
	}()
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	s := &sshServer{program: program}
	if err := s.spawn([]uintptr{null.Fd(), null.Fd(), os.Stderr.Fd(), null.Fd()}); err != nil {
		t.Error(err)
	}
}
