package sshd

import (
	"net"
	"os"
	"path/filepath"
)

// agentSocket is where programs of a session find the client's ssh-agent.
type agentSocket struct {
	path   string
	listen net.Listener
	remove func()
}

// forwardAgent makes the socket in a directory of the user's that nobody else
// can enter.
func (s *session) forwardAgent() bool {
	if s.started || s.agent != nil {
		return false
	}
	a := &agentSocket{}
	as := s.conn.as
	err := asUser(as, func() error {
		dir, err := os.MkdirTemp("/tmp", "ssh-")
		if err != nil {
			return err
		}
		a.path = filepath.Join(dir, "agent")
		a.listen, err = listen(s.conn.life, "unix", a.path)
		if err != nil {
			_ = os.Remove(dir)
		}
		return err
	})
	if err != nil {
		return false
	}
	a.listen.(*net.UnixListener).SetUnlinkOnClose(false) // not with our rights
	a.remove = func() {
		_ = asUser(as, func() error {
			_ = os.Remove(a.path)
			return os.Remove(filepath.Dir(a.path))
		})
	}
	s.agent = a
	c := s.conn
	c.spawn(func() { c.accept(a.listen, "auth-agent@openssh.com", func(net.Conn) []byte { return nil }) })
	return true
}

func (a *agentSocket) close() {
	if a == nil {
		return
	}
	_ = a.listen.Close()
	a.remove()
}
