package user

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/miekg/dns"

	"banger.dev/banger/internal/network"
)

// datagrams is a socket of the guest, connected to an address.
func (w *world) datagrams(to netip.AddrPort) *gonet.UDPConn {
	w.t.Helper()
	remote := full(to)
	conn, err := gonet.DialUDP(w.guest, nil, &remote, protocolOf(to.Addr()))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	return conn
}

// packetServer answers every datagram at the loopback by what answer makes of it.
func packetServer(t *testing.T, outside netip.Addr, answer func([]byte) []byte) netip.AddrPort {
	t.Helper()
	conn, err := net.ListenPacket("udp", netip.AddrPortFrom(loopback(outside), 0).String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	go func() {
		b := make([]byte, 1<<16)
		for {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			if out := answer(bytes.Clone(b[:n])); out != nil {
				_, _ = conn.WriteTo(out, from)
			}
		}
	}()
	return netip.AddrPortFrom(outside, conn.LocalAddr().(*net.UDPAddr).AddrPort().Port())
}

// TestBroadcastIsClosed: what is a broadcast address of a network of the host
// only the host knows.
func TestBroadcastIsClosed(t *testing.T) {
	conn, err := dialHost(t.Context(), "udp", netip.MustParseAddrPort("127.255.255.255:7"))
	if err == nil {
		_ = conn.Close()
	}
	if !errors.Is(err, syscall.EACCES) {
		t.Errorf("a broadcast of the loopback is dialled: %v", err)
	}
}

func same(b []byte) []byte { return b }

func TestUDP(t *testing.T) {
	both(t, func(t *testing.T, outside netip.Addr) {
		to := packetServer(t, outside, same)
		w := newWorld(t, nil)
		conn := w.datagrams(to)
		for _, size := range []int{0, 1, 1000, 60000, 65507} { // the last is larger than the MTU
			sent := bytes.Repeat([]byte{byte(size)}, size)
			if _, err := conn.Write(sent); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, 1<<16)
			n, err := conn.Read(got)
			if err != nil || !bytes.Equal(got[:n], sent) {
				t.Errorf("%d bytes came back as %d (%v)", size, n, err)
			}
		}
		if s := w.n.Stats(); s.Flows != 1 || s.Dropped != 0 {
			t.Errorf("%d flows, %d packets dropped", s.Flows, s.Dropped)
		}
	})
}

// TestUDPRefused: where nobody listens the guest hears it.
func TestUDPRefused(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	to := netip.AddrPortFrom(outside4(), conn.LocalAddr().(*net.UDPAddr).AddrPort().Port())
	_ = conn.Close()
	for name, to := range map[string]netip.AddrPort{"Outside": to, "Gateway": netip.AddrPortFrom(network.User().Gateway4, 54)} {
		t.Run(name, func(t *testing.T) {
			c := newWorld(t, nil).datagrams(to)
			var err error
			for deadline := time.Now().Add(patience); err == nil && time.Now().Before(deadline); {
				_, err = c.Write([]byte("x")) // tells of the one before
			}
			if err == nil || !strings.Contains(err.Error(), "refused") {
				t.Errorf("the guest heard %v", err)
			}
		})
	}
}

// TestFlowsAreBounded: more flows than there may be push out the oldest.
func TestFlowsAreBounded(t *testing.T) {
	to := packetServer(t, outside4(), same)
	w := newWorld(t, nil)
	for range maxFlows + 20 {
		c := w.datagrams(to)
		_, _ = c.Write([]byte("x"))
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
	}
	if s := w.n.Stats(); s.Flows != maxFlows {
		t.Errorf("%d flows", s.Flows)
	}
}

// echoRequest is an echo request as a frame of the guest.
func echoRequest(dst netip.Addr, ident uint16) []byte {
	plan := network.User()
	frame := make([]byte, etherSize, 128)
	header.Ethernet(frame).Encode(&header.EthernetFields{DstAddr: gatewayMAC, Type: protocolOf(dst)})
	icmp := make([]byte, 16)
	icmp[0] = byte(header.ICMPv4Echo)
	if dst.Is6() {
		icmp[0] = byte(header.ICMPv6EchoRequest)
	}
	binary.BigEndian.PutUint16(icmp[4:], ident)
	copy(icmp[8:], "payload!")
	if dst.Is4() {
		header.ICMPv4(icmp).SetChecksum(header.ICMPv4Checksum(icmp, 0))
		ip := header.IPv4(make([]byte, header.IPv4MinimumSize))
		ip.Encode(&header.IPv4Fields{TotalLength: uint16(len(ip) + len(icmp)), TTL: 64, Protocol: uint8(header.ICMPv4ProtocolNumber), SrcAddr: tcpipAddr(plan.Guest4.Addr()), DstAddr: tcpipAddr(dst)})
		ip.SetChecksum(^ip.CalculateChecksum())
		return append(append(frame, ip...), icmp...)
	}
	header.ICMPv6(icmp).SetChecksum(header.ICMPv6Checksum(header.ICMPv6ChecksumParams{Header: icmp, Src: tcpipAddr(plan.Guest6.Addr()), Dst: tcpipAddr(dst)}))
	ip := header.IPv6(make([]byte, header.IPv6MinimumSize))
	ip.Encode(&header.IPv6Fields{PayloadLength: uint16(len(icmp)), TransportProtocol: header.ICMPv6ProtocolNumber, HopLimit: 64, SrcAddr: tcpipAddr(plan.Guest6.Addr()), DstAddr: tcpipAddr(dst)})
	return append(append(frame, ip...), icmp...)
}

// bare is a network whose card is the test's own.
func bare(t *testing.T, allows func(netip.Addr) bool) (*Network, *os.File) {
	t.Helper()
	host, card := pair(t)
	n := New(Config{Plan: network.User(), MAC: guestMAC(), Allows: allows, Dial: dialLoopback, Resolv: os.DevNull, Hosts: os.DevNull})
	served := make(chan error, 1)
	go func() { served <- n.Serve(t.Context(), host) }()
	t.Cleanup(func() {
		_ = card.Close()
		<-served
	})
	_ = card.SetDeadline(time.Now().Add(patience))
	return n, card
}

func put(t *testing.T, card *os.File, frame []byte) {
	t.Helper()
	if _, err := card.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...)); err != nil {
		t.Fatal(err)
	}
}

// take is the next frame to the guest.
func take(t *testing.T, card *os.File) []byte {
	t.Helper()
	var length [4]byte
	if _, err := io.ReadFull(card, length[:]); err != nil {
		t.Fatal(err)
	}
	frame := make([]byte, binary.BigEndian.Uint32(length[:]))
	if _, err := io.ReadFull(card, frame); err != nil {
		t.Fatal(err)
	}
	return frame
}

// TestEcho: the host's own answer comes back under the guest's identifier; the
// gateway answers for itself; what is closed is said to be, and nobody pretends.
func TestEcho(t *testing.T) {
	probe, err := dialEcho(netip.MustParseAddr("127.0.0.1"))
	if errors.Is(err, errNoEcho) {
		t.Skip("this host lets us send no echo requests")
	}
	if err != nil {
		t.Fatal(err)
	}
	_ = probe.Close()
	_, card := bare(t, func(a netip.Addr) bool { return a.IsLoopback() })
	plan := network.User()
	for _, test := range []struct {
		to   netip.Addr
		want byte
	}{
		{netip.MustParseAddr("127.0.0.1"), byte(header.ICMPv4EchoReply)},
		{netip.IPv6Loopback(), byte(header.ICMPv6EchoReply)},
		{plan.Gateway4, byte(header.ICMPv4EchoReply)},
		{plan.Gateway6, byte(header.ICMPv6EchoReply)},
		{outside4(), byte(header.ICMPv4DstUnreachable)},
		{outside6(), byte(header.ICMPv6DstUnreachable)},
	} {
		put(t, card, echoRequest(test.to, 0x1234))
		frame := take(t, card)[etherSize:]
		icmp := frame[header.IPv4MinimumSize:]
		if test.to.Is6() {
			icmp = frame[header.IPv6MinimumSize:]
		}
		if icmp[0] != test.want {
			t.Errorf("%s answers with type %d, not %d", test.to, icmp[0], test.want)
			continue
		}
		if test.want != byte(header.ICMPv4DstUnreachable) && test.want != byte(header.ICMPv6DstUnreachable) &&
			(binary.BigEndian.Uint16(icmp[4:]) != 0x1234 || string(icmp[8:16]) != "payload!") {
			t.Errorf("%s answers %x", test.to, icmp)
		}
	}
}

// nameServer answers every question with an address, over UDP and TCP at the
// same port; over UDP it cuts long answers short.
func nameServer(t *testing.T, address string, answers int) netip.AddrPort {
	t.Helper()
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		for range answers {
			m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.ParseIP(address)})
		}
		if _, ok := w.RemoteAddr().(*net.UDPAddr); ok {
			m.Truncate(512)
		}
		_ = w.WriteMsg(m)
	})
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		p, err := net.ListenPacket("udp", l.Addr().String())
		if err != nil {
			_ = l.Close()
			continue
		}
		for _, s := range []*dns.Server{{Listener: l, Handler: handler}, {PacketConn: p, Handler: handler}} {
			started := make(chan struct{})
			s.NotifyStartedFunc = func() { close(started) }
			go func() { _ = s.ActivateAndServe() }()
			<-started
			t.Cleanup(func() { _ = s.Shutdown() })
		}
		return l.Addr().(*net.TCPAddr).AddrPort()
	}
}

// ask asks the gateway a question.
func (w *world) ask(proto string, gateway netip.Addr, name string, kind uint16) *dns.Msg {
	w.t.Helper()
	to := netip.AddrPortFrom(gateway, dnsPort)
	var conn net.Conn
	if proto == "tcp" {
		conn = w.mustDial(to)
	} else {
		conn = w.datagrams(to)
	}
	defer func() { _ = conn.Close() }()
	c := dns.Client{Net: proto, Timeout: patience}
	m, _, err := c.ExchangeWithConn(new(dns.Msg).SetQuestion(name, kind), &dns.Conn{Conn: conn, UDPSize: dns.MinMsgSize})
	if err != nil {
		w.t.Fatalf("%s %s: %v", proto, name, err)
	}
	return m
}

func TestDNS(t *testing.T) {
	first, second, long := nameServer(t, "198.51.100.1", 1), nameServer(t, "198.51.100.2", 1), nameServer(t, "198.51.100.3", 100)
	w := newWorld(t, func(c *Config) { c.Settings.DNS = []string{first.String()} })
	plan := network.User()
	for _, gateway := range []netip.Addr{plan.Gateway4, plan.Gateway6} {
		for _, proto := range []string{"udp", "tcp"} {
			m := w.ask(proto, gateway, "name.test.", dns.TypeA)
			if len(m.Answer) != 1 || m.Answer[0].(*dns.A).A.String() != "198.51.100.1" {
				t.Errorf("%s by %s: %v", proto, gateway, m)
			}
		}
	}
	w.askThese(second)
	if m := w.ask("udp", plan.Gateway4, "name.test.", dns.TypeA); len(m.Answer) != 1 || m.Answer[0].(*dns.A).A.String() != "198.51.100.2" {
		t.Errorf("another server: %v", m)
	}
	w.askThese(long)
	if m := w.ask("udp", plan.Gateway4, "name.test.", dns.TypeA); !m.Truncated {
		t.Error("a long answer over UDP is not said to be cut short")
	}
	if m := w.ask("tcp", plan.Gateway4, "name.test.", dns.TypeA); len(m.Answer) != 100 {
		t.Errorf("over TCP it has %d answers", len(m.Answer))
	}
	// A server that is gone is passed over; when all are, it is said at once.
	gone := netip.MustParseAddrPort("127.0.0.1:1")
	w.askThese(gone, first)
	if m := w.ask("udp", plan.Gateway4, "name.test.", dns.TypeA); len(m.Answer) != 1 {
		t.Errorf("the second server was not asked: %v", m)
	}
	w.askThese(gone)
	if m := w.ask("udp", plan.Gateway4, "name.test.", dns.TypeA); m.Rcode != dns.RcodeServerFailure {
		t.Errorf("without a server: %v", m)
	}
	if s := w.n.Stats(); s.Names != 9 {
		t.Errorf("%d questions were counted", s.Names)
	}
}

// askThese boots the guest again, with other servers of names.
func (w *world) askThese(servers ...netip.AddrPort) {
	w.t.Helper()
	w.end()
	<-w.served
	w.n.names.fixed = servers
	w.boot()
}

// TestHostFiles: the guest sees the host's names and servers, as they are now.
func TestHostFiles(t *testing.T) {
	w := newWorld(t, nil)
	plan := network.User()
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(w.n.cfg.Hosts, "127.0.0.1 localhost\n127.0.1.1 me\n198.51.100.7 Build.Corp build # a comment\n2001:db8::7 build.corp\nnonsense x\n")
	if m := w.ask("udp", plan.Gateway4, "bUILD.corp.", dns.TypeA); len(m.Answer) != 1 || m.Answer[0].(*dns.A).A.String() != "198.51.100.7" {
		t.Errorf("a name of the hosts file: %v", m)
	}
	if m := w.ask("udp", plan.Gateway4, "build.corp.", dns.TypeAAAA); len(m.Answer) != 1 || m.Answer[0].(*dns.AAAA).AAAA.String() != "2001:db8::7" {
		t.Errorf("its IPv6 address: %v", m)
	}
	if got := w.n.names.known(new(dns.Msg).SetQuestion("me.", dns.TypeA)); got != nil {
		t.Errorf("the guest is told of the host's loopback: %v", got)
	}
	write(w.n.cfg.Hosts, "198.51.100.88 build.corp\n")
	if m := w.ask("udp", plan.Gateway4, "build.corp.", dns.TypeA); len(m.Answer) != 1 || m.Answer[0].(*dns.A).A.String() != "198.51.100.88" {
		t.Errorf("after a change of the hosts file: %v", m)
	}
	write(w.n.cfg.Resolv, "# none\nsearch x\nnameserver 192.0.2.53\nnameserver fe80::1%eth0\nnameserver bad\n")
	if got := w.n.names.servers(); len(got) != 2 || got[0].String() != "192.0.2.53:53" || got[1].String() != "[fe80::1%eth0]:53" {
		t.Errorf("servers %v", got)
	}
	write(w.n.cfg.Resolv, "nameserver 192.0.2.54\n")
	if got := w.n.names.servers(); len(got) != 1 || got[0].String() != "192.0.2.54:53" {
		t.Errorf("servers after a change: %v", got)
	}
	if err := os.Remove(w.n.cfg.Resolv); err != nil {
		t.Fatal(err)
	}
	if got := w.n.names.servers(); len(got) != 1 || got[0].String() != "127.0.0.1:53" {
		t.Errorf("servers without a file: %v", got)
	}
}
