package sshd

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

func dialer() *net.Dialer { return &net.Dialer{Timeout: 30 * time.Second} }

func listen(ctx context.Context, network, address string) (net.Listener, error) {
	var l net.ListenConfig
	return l.Listen(ctx, network, address)
}

// firstFreePort is the first port that needs no privilege.
const firstFreePort = 1024

// dialTCP is -L, -D, -W and -J: a connection from the guest to wherever the client says.
func (c *conn) dialTCP(channel ssh.NewChannel) {
	var to struct {
		Host       string
		Port       uint32
		OriginHost string
		OriginPort uint32
	}
	if ssh.Unmarshal(channel.ExtraData(), &to) != nil || to.Port > 65535 {
		_ = channel.Reject(ssh.ConnectionFailed, "a malformed request")
		return
	}
	target, err := dialer().DialContext(c.life, "tcp", net.JoinHostPort(to.Host, strconv.Itoa(int(to.Port))))
	if errors.Is(err, syscall.ECONNREFUSED) && to.Port == sshPort && isLoopback(to.Host) {
		target, err = c.server.dialSelf()
	}
	if err != nil {
		_ = channel.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	c.join(channel, target)
}

// sshPort is where a machine's sshd is looked for. Where the guest has none,
// whoever jumps to it finds this server, as after ssh -J web.vm alice@localhost.
const sshPort = 22

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// dialSelf gives a connection to this server.
func (s *Server) dialSelf() (net.Conn, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	var conns [2]net.Conn
	for i, fd := range pair {
		file := os.NewFile(uintptr(fd), "ssh")
		var cerr error
		conns[i], cerr = net.FileConn(file)
		err = errors.Join(err, cerr)
		_ = file.Close()
	}
	if err != nil {
		for _, one := range conns {
			if one != nil {
				_ = one.Close()
			}
		}
		return nil, err
	}
	go s.Serve(conns[1])
	return conns[0], nil
}

// dialStream is -L to a unix socket, which is opened with the user's rights.
func (c *conn) dialStream(channel ssh.NewChannel) {
	var to struct {
		Path, Reserved0 string
		Reserved1       uint32
	}
	if ssh.Unmarshal(channel.ExtraData(), &to) != nil {
		_ = channel.Reject(ssh.ConnectionFailed, "a malformed request")
		return
	}
	var target net.Conn
	err := asUser(c.as, func() (err error) {
		target, err = dialer().DialContext(c.life, "unix", to.Path)
		return err
	})
	if err != nil {
		_ = channel.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	c.join(channel, target)
}

// join accepts channel and carries bytes between it and target until both
// directions have ended.
func (c *conn) join(channel ssh.NewChannel, target net.Conn) {
	stream, requests, err := channel.Accept()
	if err != nil {
		_ = target.Close()
		return
	}
	c.spawn(func() { ssh.DiscardRequests(requests) })
	splice(stream, target)
}

// splice closes both when it returns.
func splice(stream ssh.Channel, target net.Conn) {
	var up sync.WaitGroup
	up.Go(func() {
		defer caught()
		_, err := io.Copy(target, stream)
		if half, ok := target.(interface{ CloseWrite() error }); ok && err == nil {
			_ = half.CloseWrite()
			return
		}
		_ = target.Close()
	})
	if _, err := io.Copy(stream, target); err != nil {
		_ = stream.Close()
	} else {
		_ = stream.CloseWrite()
	}
	up.Wait()
	_ = stream.Close()
	_ = target.Close()
}

// tcpForward is the payload of tcpip-forward and of its cancelling.
type tcpForward struct {
	Host string
	Port uint32
}

// listenTCP is -R. As with GatewayPorts=clientspecified the client says where;
// port 0 is one that is free, told in the reply.
func (c *conn) listenTCP(payload []byte) (bool, []byte) {
	var at tcpForward
	if ssh.Unmarshal(payload, &at) != nil || at.Port > 65535 || (at.Port != 0 && at.Port < firstFreePort && c.as.UID != 0) {
		return false, nil
	}
	var listeners []net.Listener
	port := at.Port
	for _, host := range bindHosts(at.Host) {
		ln, err := listen(c.life, "tcp", net.JoinHostPort(host, strconv.Itoa(int(port))))
		if err != nil {
			continue // a guest may have no IPv6
		}
		port = uint32(ln.Addr().(*net.TCPAddr).Port)
		listeners = append(listeners, ln)
	}
	if len(listeners) == 0 {
		return false, nil
	}
	if !c.keep(tcpKey(at.Host, port), group(listeners)) {
		return false, nil
	}
	for _, ln := range listeners {
		c.spawn(func() { c.acceptTCP(ln, at.Host, port) })
	}
	if at.Port != 0 {
		return true, nil
	}
	return true, ssh.Marshal(struct{ Port uint32 }{port})
}

// bindHosts is where to listen for what a client calls host.
func bindHosts(host string) []string {
	switch host {
	case "localhost":
		return []string{"127.0.0.1", "::1"}
	case "", "*":
		return []string{""}
	}
	return []string{host}
}

func tcpKey(host string, port uint32) string {
	return "tcp " + net.JoinHostPort(host, strconv.Itoa(int(port)))
}

func (c *conn) cancelTCP(payload []byte) bool {
	var at tcpForward
	return ssh.Unmarshal(payload, &at) == nil && c.drop(tcpKey(at.Host, at.Port))
}

func (c *conn) acceptTCP(ln net.Listener, host string, port uint32) {
	c.accept(ln, "forwarded-tcpip", func(client net.Conn) []byte {
		origin, _ := client.RemoteAddr().(*net.TCPAddr)
		if origin == nil {
			origin = &net.TCPAddr{}
		}
		return ssh.Marshal(struct {
			Host       string
			Port       uint32
			OriginHost string
			OriginPort uint32
		}{host, port, origin.IP.String(), uint32(origin.Port)})
	})
}

// listenStream is -R of a unix socket, made with the user's rights.
func (c *conn) listenStream(payload []byte) bool {
	var at struct{ Path string }
	if ssh.Unmarshal(payload, &at) != nil || !filepath.IsAbs(at.Path) {
		return false
	}
	var ln net.Listener
	err := asUser(c.as, func() (err error) {
		ln, err = listen(c.life, "unix", at.Path)
		return err
	})
	if err != nil {
		return false
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false) // not with our rights
	if !c.keep("unix "+at.Path, &socket{ln, func() { _ = asUser(c.as, func() error { return os.Remove(at.Path) }) }}) {
		return false
	}
	c.spawn(func() {
		c.accept(ln, "forwarded-streamlocal@openssh.com", func(net.Conn) []byte {
			return ssh.Marshal(struct{ Path, Reserved string }{at.Path, ""})
		})
	})
	return true
}

func (c *conn) cancelStream(payload []byte) bool {
	var at struct{ Path string }
	return ssh.Unmarshal(payload, &at) == nil && c.drop("unix "+at.Path)
}

// accept opens a channel to the client for each connection that ln gets.
func (c *conn) accept(ln net.Listener, kind string, describe func(net.Conn) []byte) {
	for {
		target, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(100 * time.Millisecond) // out of descriptors, most likely
			continue
		}
		select {
		case c.slots <- struct{}{}:
		default:
			_ = target.Close()
			continue
		}
		c.spawn(func() {
			defer func() { <-c.slots }()
			stream, requests, err := c.ssh.OpenChannel(kind, describe(target))
			if err != nil {
				_ = target.Close()
				return
			}
			c.spawn(func() { ssh.DiscardRequests(requests) })
			splice(stream, target)
		})
	}
}

// keep notes a listener, to be closed with the connection; it closes one that is
// too many.
func (c *conn) keep(key string, ln io.Closer) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended || len(c.listeners) >= maxForwards || c.listeners[key] != nil {
		_ = ln.Close()
		return false
	}
	c.listeners[key] = ln
	return true
}

func (c *conn) drop(key string) bool {
	c.mu.Lock()
	ln := c.listeners[key]
	delete(c.listeners, key)
	c.mu.Unlock()
	return ln != nil && ln.Close() == nil
}

func (c *conn) closeListeners() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	for _, ln := range c.listeners {
		_ = ln.Close()
	}
	c.listeners = nil
}

// group is several listeners that are closed as one.
type group []net.Listener

func (g group) Close() error {
	var errs []error
	for _, ln := range g {
		errs = append(errs, ln.Close())
	}
	return errors.Join(errs...)
}

// socket is a listener with something to be put away behind it.
type socket struct {
	net.Listener
	remove func()
}

func (s *socket) Close() error {
	err := s.Listener.Close()
	s.remove()
	return err
}
