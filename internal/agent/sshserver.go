package agent

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"banger.dev/banger/internal/agent/wire"
)

// The server's side of what follows is internal/agent/sshd, which is not
// imported: its size is what the second program is there to keep out of this one.
const roleSSH = "@banger-ssh"

// sshServer is the second program: started at the first connection, again
// should it have ended, and given a descriptor for each stream.
type sshServer struct {
	config wire.Config

	mu      sync.Mutex
	program *os.File // in memory, without a name
	control int      // where its connections are sent, or -1
}

func newSSHServer(c wire.Config) *sshServer { return &sshServer{config: c, control: -1} }

// Serve carries one stream to the server and back, and closes it.
func (s *sshServer) Serve(stream net.Conn) {
	defer func() { _ = stream.Close() }()
	conn, err := s.connect()
	if err != nil {
		fmt.Fprintf(os.Stderr, "banger-agent: ssh: %v\n", err)
		return
	}
	defer func() { _ = conn.Close() }()
	var up sync.WaitGroup
	up.Go(func() {
		_, _ = io.Copy(conn, stream)
		_ = conn.Close()
	})
	_, _ = io.Copy(stream, conn)
	_ = conn.Close()
	_ = stream.Close()
	_ = stream.SetReadDeadline(time.Unix(1, 0)) // a yamux stream is read on after Close
	up.Wait()
}

// connect gives a new connection to the server.
func (s *sshServer) connect() (net.Conn, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	defer func() { _ = unix.Close(pair[1]) }()
	file := os.NewFile(uintptr(pair[0]), "ssh")
	defer func() { _ = file.Close() }()
	if err := s.hand(pair[1]); err != nil {
		return nil, err
	}
	return net.FileConn(file)
}

// hand sends a descriptor to the server, starting it if it does not run.
func (s *sshServer) hand(fd int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	rights := unix.UnixRights(fd)
	if s.control >= 0 {
		if unix.Sendmsg(s.control, []byte{0}, rights, nil, unix.MSG_NOSIGNAL) == nil {
			return nil
		}
		_ = unix.Close(s.control)
		s.control = -1
	}
	if err := s.start(); err != nil {
		return err
	}
	return os.NewSyscallError("sendmsg", unix.Sendmsg(s.control, []byte{0}, rights, nil, unix.MSG_NOSIGNAL))
}

// start starts the server; mu is held.
func (s *sshServer) start() error {
	if s.program == nil {
		program, err := loadServer("/dev/" + s.config.Modules)
		if err != nil {
			return err
		}
		s.program = program
	}
	control, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socketpair", err)
	}
	defer func() { _ = unix.Close(control[1]) }()
	r, w, err := os.Pipe()
	if err != nil {
		_ = unix.Close(control[0])
		return err
	}
	defer func() { _ = r.Close() }()
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err == nil {
		defer func() { _ = null.Close() }()
		err = s.spawn([]uintptr{r.Fd(), null.Fd(), os.Stderr.Fd(), uintptr(control[1])})
	}
	if err != nil {
		_, _ = w.Close(), unix.Close(control[0])
		return err
	}
	go func() {
		// The keys go by a pipe: arguments and environments are for all to see.
		_ = json.NewEncoder(w).Encode(struct {
			SSH *wire.SSH `json:"ssh"`
			Env []string  `json:"env"`
		}{s.config.SSH, s.config.Env})
		_ = w.Close()
	}()
	s.control = control[0]
	return nil
}

func (s *sshServer) spawn(files []uintptr) error {
	// Ours, not its own: there one of files may be in the program's place.
	program := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), s.program.Fd())
	pid, err := syscall.ForkExec(program, []string{roleSSH}, &syscall.ProcAttr{
		Dir: "/", Env: []string{"GOTRACEBACK=all"}, Files: files, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return fmt.Errorf("starting the server: %w", err)
	}
	go waitFor(pid)
	return nil
}

// loadServer reads the program from the end of the modules disk to memory.
func loadServer(device string) (*os.File, error) {
	disk, err := os.Open(device)
	if err != nil {
		return nil, err
	}
	defer func() { _ = disk.Close() }()
	size, err := disk.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	server, err := wire.FindServer(disk, size)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", device, err)
	}
	fd, err := unix.MemfdCreate("banger-ssh", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	program := os.NewFile(uintptr(fd), "banger-ssh")
	if _, err := io.Copy(program, server); err != nil {
		_ = program.Close()
		return nil, err
	}
	return reopened(program)
}

// reopened is a program open for reading alone: one that is open for writing
// cannot be run.
func reopened(program *os.File) (*os.File, error) {
	defer func() { _ = program.Close() }()
	return os.Open(fmt.Sprintf("/proc/self/fd/%d", program.Fd()))
}
