package user

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"banger.dev/banger/internal/network"
)

// arpRequest asks who has an address.
func arpRequest(who netip.Addr) []byte {
	frame := make([]byte, etherSize+header.ARPSize)
	header.Ethernet(frame).Encode(&header.EthernetFields{DstAddr: header.EthernetBroadcastAddress, Type: header.ARPProtocolNumber})
	arp := header.ARP(frame[etherSize:])
	arp.SetIPv4OverEthernet()
	arp.SetOp(header.ARPRequest)
	copy(arp.ProtocolAddressSender(), network.User().Guest4.Addr().AsSlice())
	copy(arp.ProtocolAddressTarget(), who.AsSlice())
	return frame
}

// syn begins a connection from a port of the guest.
func syn(from uint16, to netip.AddrPort) []byte {
	return tcpFrame(from, to, header.TCPFields{SeqNum: 1, Flags: header.TCPFlagSyn}, "")
}

// tcpFrame is a segment of a connection from a port of the guest.
func tcpFrame(from uint16, to netip.AddrPort, fields header.TCPFields, data string) []byte {
	const heads = header.IPv4MinimumSize + header.TCPMinimumSize
	frame := append(make([]byte, etherSize+heads), data...)
	header.Ethernet(frame).Encode(&header.EthernetFields{DstAddr: gatewayMAC, Type: header.IPv4ProtocolNumber})
	ip := header.IPv4(frame[etherSize:])
	ip.Encode(&header.IPv4Fields{
		TotalLength: uint16(heads + len(data)), TTL: 64, Protocol: uint8(header.TCPProtocolNumber),
		SrcAddr: tcpipAddr(network.User().Guest4.Addr()), DstAddr: tcpipAddr(to.Addr()),
	})
	ip.SetChecksum(^ip.CalculateChecksum())
	fields.SrcPort, fields.DstPort, fields.DataOffset, fields.WindowSize = from, to.Port(), header.TCPMinimumSize, 0xffff
	header.TCP(ip.Payload()).Encode(&fields)
	return frame
}

// TestOnlyTheGatewayIsHere: nobody but the gateway answers for an address of the
// guest's subnet.
func TestOnlyTheGatewayIsHere(t *testing.T) {
	_, card := bare(t, func(netip.Addr) bool { return false })
	for _, a := range []string{"10.0.2.1", "10.0.2.3", "10.0.2.15", "8.8.8.8", "10.0.2.2"} {
		put(t, card, arpRequest(netip.MustParseAddr(a)))
	}
	reply := header.ARP(take(t, card)[etherSize:])
	if got := addr(reply.ProtocolAddressSender()); got != network.User().Gateway4 {
		t.Errorf("%s answers", got)
	}
}

// TestFloodOfSYNs: connections that do not come about are bounded, and when they
// are over others are made.
func TestFloodOfSYNs(t *testing.T) {
	host, card := pair(t)
	var mu sync.Mutex
	dialling, most := 0, 0
	n := New(Config{
		Plan: network.User(), MAC: guestMAC(), Allows: func(netip.Addr) bool { return true },
		Dial: func(ctx context.Context, _ string, _ netip.AddrPort) (Socket, error) {
			mu.Lock()
			dialling++
			most = max(most, dialling)
			mu.Unlock()
			<-ctx.Done()
			return nil, ctx.Err()
		},
	})
	served := make(chan error, 1)
	go func() { served <- n.Serve(t.Context(), host) }()
	for port := range uint16(10000) {
		put(t, card, syn(10000+port, netip.AddrPortFrom(outside4(), 80)))
	}
	put(t, card, arpRequest(network.User().Gateway4)) // when this is answered, all have been seen
	_ = card.SetDeadline(time.Now().Add(patience))
	_ = take(t, card)
	if s := n.Stats(); s.Open > maxPending {
		t.Errorf("%d connections are pending", s.Open)
	}
	_ = card.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if most > maxPending {
		t.Errorf("%d were dialled at once", most)
	}
	if s := n.Stats(); s.Open != 0 {
		t.Errorf("%d are left", s.Open)
	}
}

// TestGuestThatReadsNothing: what waits for it is bounded, and it can be ended.
func TestGuestThatReadsNothing(t *testing.T) {
	n, card := bare(t, func(netip.Addr) bool { return false })
	big := append(echoRequest(network.User().Gateway4, 1)[:etherSize], make([]byte, 60000)...)
	icmp := big[etherSize+header.IPv4MinimumSize:]
	icmp[0] = byte(header.ICMPv4Echo)
	ip := header.IPv4(big[etherSize:])
	plan := network.User()
	ip.Encode(&header.IPv4Fields{
		TotalLength: 60000, TTL: 64, Protocol: uint8(header.ICMPv4ProtocolNumber),
		SrcAddr: tcpipAddr(plan.Guest4.Addr()), DstAddr: tcpipAddr(plan.Gateway4),
	})
	ip.SetChecksum(^ip.CalculateChecksum())
	for range 500 { // 30 MB of answers
		put(t, card, big)
	}
	deadline := time.Now().Add(patience)
	for n.Stats().Dropped == 0 && time.Now().Before(deadline) {
		runtime.Gosched()
	}
	if n.Stats().Dropped == 0 {
		t.Error("nothing was dropped")
	}
}

// TestImpossibleFrame ends the network of this boot, for there is no telling
// where the next frame begins, and nothing else.
func TestImpossibleFrame(t *testing.T) {
	host, card := pair(t)
	n := New(Config{Plan: network.User(), MAC: guestMAC()})
	served := make(chan error, 1)
	go func() { served <- n.Serve(t.Context(), host) }()
	if _, err := card.Write([]byte{0xff, 0xff, 0xff, 0xff}); err != nil {
		t.Fatal(err)
	}
	if err := <-served; err == nil {
		t.Error("it was believed")
	}
}

// TestIdleConnectionsAreSmall: a connection at rest costs little.
func TestIdleConnectionsAreSmall(t *testing.T) {
	const connections, limit = 500, 20 << 10
	to := serve(t, outside4(), func(c *net.TCPConn) { _, _ = c.Read(make([]byte, 1)) })
	w := newWorld(t, nil)
	open := func(n int) {
		for range n {
			_ = w.mustDial(to)
		}
	}
	open(20) // what is made once
	before := inUse()
	open(connections)
	after := inUse()
	// The test's own half is in it too: the guest's stack and a goroutine of the server.
	if each := (after - before) / connections; each > 2*limit {
		t.Errorf("each connection costs %d bytes", each)
	} else {
		t.Logf("each connection costs %d bytes, the guest's half included", each)
	}
}

// inUse are the bytes of heap and stacks after a collection.
func inUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// FuzzFrames: whatever a guest sends, the network goes on, dials nothing that is
// closed, and answers the gateway's echo afterwards.
func FuzzFrames(f *testing.F) {
	plan := network.User()
	for _, seed := range [][]byte{
		{}, {0}, arpRequest(plan.Gateway4), syn(1024, netip.AddrPortFrom(outside4(), 80)), syn(1024, netip.AddrPortFrom(plan.Gateway4, 53)),
		echoRequest(plan.Gateway4, 1), echoRequest(plan.Gateway6, 1), echoRequest(outside4(), 1), echoRequest(outside6(), 1),
		syn(1, netip.MustParseAddrPort("127.0.0.1:22")), slices.Concat(syn(1, netip.AddrPortFrom(outside4(), 80)), make([]byte, 100)),
	} {
		f.Add(seed)
		if len(seed) > etherSize+header.IPv4MinimumSize { // as UDP, as a fragment, and cut short
			udp := slices.Clone(seed)
			udp[etherSize+9] = uint8(header.UDPProtocolNumber)
			header.IPv4(udp[etherSize:]).SetChecksum(0)
			header.IPv4(udp[etherSize:]).SetChecksum(^header.IPv4(udp[etherSize:]).CalculateChecksum())
			f.Add(udp)
			fragment := slices.Clone(udp)
			fragment[etherSize+6] = 0x20
			header.IPv4(fragment[etherSize:]).SetChecksum(0)
			header.IPv4(fragment[etherSize:]).SetChecksum(^header.IPv4(fragment[etherSize:]).CalculateChecksum())
			f.Add(fragment)
			f.Add(seed[:len(seed)-3])
		}
	}
	policy := newPolicy(rules{own: ownSubnets()})
	f.Fuzz(func(t *testing.T, frame []byte) {
		if len(frame) > maxFrame {
			return
		}
		host, card := pair(t)
		n := New(Config{
			Plan: plan, MAC: guestMAC(), Allows: policy.allows, Resolv: "/dev/null", Hosts: "/dev/null",
			Dial: func(_ context.Context, _ string, to netip.AddrPort) (Socket, error) {
				if !policy.allows(to.Addr()) {
					t.Errorf("%s was dialled", to)
				}
				return nil, syscall.ENETUNREACH
			},
		})
		n.names.fixed = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:1")}
		served := make(chan error, 1)
		go func() { served <- n.Serve(t.Context(), host) }()
		_ = card.SetDeadline(time.Now().Add(patience))
		put(t, card, frame)
		put(t, card, echoRequest(plan.Gateway4, 0xbeef))
		for {
			b := take(t, card)
			if len(b) >= etherSize+28 && b[etherSize+9] == uint8(header.ICMPv4ProtocolNumber) &&
				b[etherSize+20] == byte(header.ICMPv4EchoReply) && binary.BigEndian.Uint16(b[etherSize+24:]) == 0xbeef {
				break
			}
		}
		_ = card.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}
