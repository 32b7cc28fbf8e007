package user

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// echo sends an echo request of the guest on; only the place it is for can
// answer it. Of the gateway we answer for ourselves.
func (b *boot) echo(src, dst netip.Addr, packet, icmp []byte) {
	if dst == b.cfg.Plan.Gateway4 || dst == b.cfg.Plan.Gateway6 {
		reply := bytes.Clone(icmp)
		reply[0] = byte(header.ICMPv4EchoReply)
		if dst.Is6() {
			reply[0] = byte(header.ICMPv6EchoReply)
		}
		b.sendICMP(dst, src, reply)
		return
	}
	quote := bytes.Clone(packet[:min(len(packet), header.IPv6MinimumSize+8)])
	if !b.allows(dst) {
		b.unreachable(src, dst, quote, prohibited)
		return
	}
	ident := binary.BigEndian.Uint16(icmp[4:])
	key := flowKey{header.ICMPv4ProtocolNumber, netip.AddrPortFrom(src, ident), netip.AddrPortFrom(dst, 0)}
	b.flows.send(key, icmp, quote, func() (Socket, error) { return dialEcho(dst) })
}

// echoSocket is a socket for the echo requests of one flow. A ping socket has
// its identifier and checksum from the kernel and gives only its own answers; a
// raw one is given everything, so that identifier and source are looked at.
type echoSocket struct {
	Socket
	to    netip.Addr
	raw   bool
	ident uint16 // of a raw one
}

// dialEcho makes a ping socket where the host's net.ipv4.ping_group_range has
// our group, else a raw one, which root can. Without either the guest's requests
// get no answer.
func dialEcho(to netip.Addr) (Socket, error) {
	e := &echoSocket{to: to}
	var err error
	if e.Socket, err = echoConn(to, unix.SOCK_DGRAM); err == nil {
		return e, nil
	}
	if !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EPERM) {
		return nil, err
	}
	var ident [2]byte
	_, _ = rand.Read(ident[:]) // never fails
	e.raw, e.ident = true, binary.BigEndian.Uint16(ident[:])
	if e.Socket, err = echoConn(to, unix.SOCK_RAW); err != nil {
		return nil, errNoEcho
	}
	return e, nil
}

// errNoEcho is no error that the network made, and none that the guest is told.
var errNoEcho = errors.New("this host lets us send no echo requests")

func echoConn(to netip.Addr, kind int) (Socket, error) {
	family, protocol := unix.AF_INET, unix.IPPROTO_ICMP
	var sa unix.Sockaddr
	if to.Is6() {
		family, protocol, sa = unix.AF_INET6, unix.IPPROTO_ICMPV6, &unix.SockaddrInet6{Addr: to.As16()}
	} else {
		sa = &unix.SockaddrInet4{Addr: to.As4()}
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	f := os.NewFile(uintptr(fd), "echo")
	defer func() { _ = f.Close() }()
	if err := unix.Connect(fd, sa); err != nil {
		return nil, os.NewSyscallError("connect", err)
	}
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	return conn.(Socket), nil // of IP or UDP
}

// request is the guest's request as this socket sends it.
func (e *echoSocket) request(icmp []byte) []byte {
	if !e.raw {
		return icmp
	}
	out := bytes.Clone(icmp)
	binary.BigEndian.PutUint16(out[4:], e.ident)
	if e.to.Is4() { // the kernel sums only the other
		m := header.ICMPv4(out)
		m.SetChecksum(0)
		m.SetChecksum(header.ICMPv4Checksum(m, 0))
	}
	return out
}

// answer is what the socket gave as an answer to the guest's identifier, or nil.
func (e *echoSocket) answer(p []byte, ident uint16) []byte {
	if e.raw && e.to.Is4() {
		ip := header.IPv4(p)
		if !ip.IsValid(len(p)) || addr(ip.SourceAddressSlice()) != e.to {
			return nil
		}
		p = ip.Payload()
	}
	want := byte(header.ICMPv4EchoReply)
	if e.to.Is6() {
		want = byte(header.ICMPv6EchoReply)
	}
	if len(p) < header.ICMPv4MinimumSize || p[0] != want || e.raw && binary.BigEndian.Uint16(p[4:]) != e.ident {
		return nil
	}
	out := bytes.Clone(p)
	binary.BigEndian.PutUint16(out[4:], ident)
	return out
}
