// Package sshd is the guest's ssh server, for ssh's own tools: ssh, scp, sftp,
// rsync, git, editors. It lets in the one key that the host made for this VM,
// as any user of the guest. banger's own commands do not use it. It knows
// nothing of virtual machines: it serves any net.Conn on any Linux.
package sshd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"banger.dev/banger/internal/agent/users"
	"banger.dev/banger/internal/agent/wire"
)

// What one client can take of the guest. The ssh of one person uses a few of
// each; who is let in is root, so the bounds are against accidents.
const (
	maxConns    = 256
	maxChannels = 256 // of a connection: sessions and forwarded connections
	maxForwards = 64  // of a connection: listeners
	loginGrace  = 2 * time.Minute
)

// Server serves connections. Its methods may be called from any goroutine.
type Server struct {
	env   []string
	users *users.DB
	sftp  func() (file string, argv []string)
	auth  ssh.ServerConfig
	conns sync.WaitGroup
	slots chan struct{}
}

// Config is what a server is made of.
type Config struct {
	SSH wire.SSH
	Env []string // K=V, the VM's own, for every session
	// Users are the guest's.
	Users *users.DB
	// SFTP is the program that serves sftp on its stdin and stdout; see ServeSFTP.
	SFTP func() (file string, argv []string)
}

// New makes a server. The error is about the keys.
func New(c Config) (*Server, error) {
	host, err := ssh.ParsePrivateKey([]byte(c.SSH.HostKey))
	if err != nil {
		return nil, fmt.Errorf("the host key: %w", err)
	}
	authorized, _, _, _, err := ssh.ParseAuthorizedKey([]byte(c.SSH.Authorized))
	if err != nil {
		return nil, fmt.Errorf("the authorized key: %w", err)
	}
	s := &Server{env: c.Env, users: c.Users, sftp: c.SFTP, slots: make(chan struct{}, maxConns)}
	s.auth = ssh.ServerConfig{
		// The connection does not leave the machine: what is asked of its
		// algorithms is that they are cheap in an emulated guest.
		Config: ssh.Config{
			KeyExchanges: []string{ssh.KeyExchangeCurve25519},
			Ciphers:      []string{ssh.CipherChaCha20Poly1305, ssh.CipherAES128GCM},
		},
		ServerVersion:           "SSH-2.0-banger",
		PublicKeyAuthAlgorithms: []string{ssh.KeyAlgoED25519},
		PublicKeyCallback: func(meta ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			if !bytes.Equal(key.Marshal(), authorized.Marshal()) {
				return nil, errors.New("not the key that banger made for this VM")
			}
			if _, err := s.lookup(meta.User()); err != nil {
				return nil, &ssh.BannerError{Err: err, Message: "banger: " + err.Error() + "\n"}
			}
			return &ssh.Permissions{}, nil
		},
	}
	s.auth.AddHostKey(host)
	return s, nil
}

// lookup finds a user; the colon that elsewhere adds a group has no meaning here.
func (s *Server) lookup(name string) (users.Identity, error) {
	if strings.Contains(name, ":") {
		return users.Identity{}, &users.NotFoundError{What: "user", Name: name}
	}
	return s.users.Lookup(name)
}

// Serve serves one connection and closes it. It returns when the connection and
// all that ran for it here have ended.
func (s *Server) Serve(raw net.Conn) {
	defer func() { _ = raw.Close() }()
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		return
	}
	s.conns.Add(1)
	defer s.conns.Done()
	defer caught()
	_ = raw.SetDeadline(time.Now().Add(loginGrace))
	auth := s.auth
	sc, channels, requests, err := ssh.NewServerConn(raw, &auth)
	if err != nil {
		return
	}
	_ = raw.SetDeadline(time.Time{})
	id, err := s.lookup(sc.User())
	if err != nil { // it was there a moment ago
		_ = sc.Close()
		return
	}
	life, end := context.WithCancel(context.Background())
	defer end()
	go func() {
		_ = sc.Wait()
		end() // a connection that is being dialled for it is not wanted any more
	}()
	c := &conn{server: s, ssh: sc, life: life, as: id, slots: make(chan struct{}, maxChannels), listeners: map[string]io.Closer{}}
	c.run(channels, requests)
}

// Wait returns when no connection is served any more.
func (s *Server) Wait() { s.conns.Wait() }

// conn is one connection.
type conn struct {
	server *Server
	ssh    *ssh.ServerConn
	as     users.Identity
	life   context.Context // ends with it
	slots  chan struct{}
	work   sync.WaitGroup

	mu        sync.Mutex
	ended     bool
	listeners map[string]io.Closer
}

func (c *conn) run(channels <-chan ssh.NewChannel, requests <-chan *ssh.Request) {
	c.spawn(func() { c.serveRequests(requests) })
	for channel := range channels {
		select {
		case c.slots <- struct{}{}:
		default:
			_ = channel.Reject(ssh.ResourceShortage, fmt.Sprintf("more than %d channels in one connection", maxChannels))
			continue
		}
		c.spawn(func() {
			defer func() { <-c.slots }()
			c.serveChannel(channel)
		})
	}
	_ = c.ssh.Close()
	c.closeListeners()
	c.work.Wait()
}

// spawn runs f beside the others. What goes wrong in it ends it, and no more.
func (c *conn) spawn(f func()) {
	c.work.Go(func() {
		defer caught()
		f()
	})
}

// caught keeps a panic from the other connections; the log has it.
func caught() {
	if p := recover(); p != nil {
		fmt.Fprintf(os.Stderr, "banger-ssh: panic: %v\n%s", p, debug.Stack())
	}
}

func (c *conn) serveChannel(channel ssh.NewChannel) {
	switch channel.ChannelType() {
	case "session":
		c.serveSession(channel)
	case "direct-tcpip":
		c.dialTCP(channel)
	case "direct-streamlocal@openssh.com":
		c.dialStream(channel)
	default:
		_ = channel.Reject(ssh.UnknownChannelType, "this server has no channels of type "+channel.ChannelType())
	}
}

func (c *conn) serveRequests(requests <-chan *ssh.Request) {
	for r := range requests {
		ok, payload := false, []byte(nil)
		switch r.Type {
		case "tcpip-forward":
			ok, payload = c.listenTCP(r.Payload)
		case "cancel-tcpip-forward":
			ok = c.cancelTCP(r.Payload)
		case "streamlocal-forward@openssh.com":
			ok = c.listenStream(r.Payload)
		case "cancel-streamlocal-forward@openssh.com":
			ok = c.cancelStream(r.Payload)
		case "keepalive@openssh.com":
			ok = true
		}
		if r.WantReply {
			_ = r.Reply(ok, payload)
		}
	}
}
