package sshd

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"banger.dev/banger/internal/agent/users"
	"banger.dev/banger/internal/agent/wire"
)

// The names of the roles; why they begin so, see package agent.
const (
	RoleServer = "@banger-ssh"
	roleSFTP   = "@banger-sftp"
)

// Handover is what the agent tells a server, as JSON on its stdin. After it the
// server takes connections, each the one descriptor of a message of one byte,
// from its descriptor 3.
type Handover struct {
	SSH wire.SSH `json:"ssh"`
	Env []string `json:"env"`
}

// HandoverFD is the descriptor that connections come from.
const HandoverFD = 3

// endGrace is how long sessions have to end when the guest powers off.
const endGrace = 2 * time.Second

// Main runs the role that args tell, and returns the exit code.
func Main(args []string) int {
	switch {
	case len(args) > 0 && args[0] == RoleServer:
		if err := serve(); err != nil {
			fmt.Fprintf(os.Stderr, "banger-ssh: %v\n", err)
			return 1
		}
		return 0
	case len(args) > 0 && args[0] == roleSFTP:
		return ServeSFTP()
	}
	fmt.Fprintln(os.Stderr, "banger-ssh runs inside banger's virtual machines, where it is started by itself")
	return 2
}

// serve serves until the agent ends or the guest powers off.
func serve() error {
	_ = unix.CloseRange(HandoverFD, ^uint(0), unix.CLOSE_RANGE_CLOEXEC)
	ends := make(chan os.Signal, 1)
	signal.Notify(ends, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	unix.Umask(0o022)
	var h Handover
	if err := json.NewDecoder(os.Stdin).Decode(&h); err != nil {
		return fmt.Errorf("the agent's word on stdin: %w", err)
	}
	s, err := New(Config{
		SSH: h.SSH, Env: h.Env, Users: &users.DB{},
		SFTP: func() (string, []string) { return "/proc/self/exe", []string{roleSFTP} },
	})
	if err != nil {
		return err
	}
	gone := make(chan struct{})
	go func() {
		receive(s)
		s.Wait() // their streams have broken with the agent
		close(gone)
	}()
	select {
	case <-gone:
	case <-ends: // sessions may still tell how they ended
		idle := make(chan struct{})
		go func() {
			s.Wait()
			close(idle)
		}()
		select {
		case <-idle:
		case <-time.After(endGrace):
		}
	}
	return nil
}

// receive serves connections until the agent is gone.
func receive(s *Server) {
	b, oob := make([]byte, 1), make([]byte, unix.CmsgSpace(4))
	for {
		n, oobn, _, _, err := unix.Recvmsg(HandoverFD, b, oob, unix.MSG_CMSG_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return
		}
		messages, err := unix.ParseSocketControlMessage(oob[:oobn])
		if err != nil || len(messages) != 1 {
			continue
		}
		fds, err := unix.ParseUnixRights(&messages[0])
		if err != nil || len(fds) != 1 {
			continue
		}
		file := os.NewFile(uintptr(fds[0]), "connection")
		conn, err := net.FileConn(file)
		_ = file.Close()
		if err == nil {
			go s.Serve(conn)
		}
	}
}
