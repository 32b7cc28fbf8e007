package publish

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"banger.dev/banger"
	"banger.dev/banger/internal/proc"
)

// Probe says why p could not be listened on now, and who has it; nil if nothing
// stands against it. No client meets the probe: it binds and does not listen.
func Probe(p banger.Port) error {
	fd, err := bind(p)
	if err == nil {
		return unix.Close(fd)
	}
	refusal := Refusal(p, err)
	if banger.KindOf(refusal) != banger.KindConflict {
		return refusal
	}
	ip, perr := netip.ParseAddr(p.HostIP)
	if perr != nil {
		return refusal
	}
	owner, ok := proc.SocketOwner(string(p.Protocol), netip.AddrPortFrom(ip, uint16(p.HostPort)))
	if !ok {
		return refusal
	}
	return banger.Errorf(banger.KindConflict, "%s/%s of this host is in use by %s (pid %d)", p.Host(), p.Protocol, owner.Command, owner.PID).
		WithNext("another port, or ps -f %d", owner.PID)
}

// Free is a port of p's address and protocol that nobody has at this moment.
func Free(p banger.Port) (int, error) {
	p.HostPort = 0
	fd, err := bind(p)
	if err != nil {
		return 0, Refusal(p, err)
	}
	defer func() { _ = unix.Close(fd) }()
	name, err := unix.Getsockname(fd)
	switch a := name.(type) {
	case *unix.SockaddrInet4:
		return a.Port, err
	case *unix.SockaddrInet6:
		return a.Port, err
	}
	return 0, fmt.Errorf("a free port of %s: %w", p.HostIP, err)
}

// bind binds a socket as net's listeners do.
func bind(p banger.Port) (int, error) {
	ip, err := netip.ParseAddr(p.HostIP)
	if err != nil {
		return -1, err
	}
	kind := unix.SOCK_STREAM
	if p.Protocol == banger.ProtocolUDP {
		kind = unix.SOCK_DGRAM
	}
	family, name := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: p.HostPort, Addr: ip.As16()})
	if ip.Is4() {
		family, name = unix.AF_INET, &unix.SockaddrInet4{Port: p.HostPort, Addr: ip.As4()}
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if family == unix.AF_INET6 {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	}
	if err == nil && kind == unix.SOCK_STREAM {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	if err == nil {
		err = unix.Bind(fd, name)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}
