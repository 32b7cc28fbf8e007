package user

import (
	"encoding/binary"
	"math"
	"net/netip"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// receive takes one frame of the guest. Only TCP and UDP reach the stack: asked
// by itself it would answer for every address there is, to ARP, neighbour
// discovery and echo requests alike.
func (b *boot) receive(frame *buffer.View) {
	p := frame.AsSlice()
	if len(p) < etherSize {
		b.drop(frame)
		return
	}
	switch eth := header.Ethernet(p); eth.Type() {
	case header.ARPProtocolNumber:
		b.answerARP(p[etherSize:])
		frame.Release()
	case header.IPv4ProtocolNumber:
		b.receive4(frame, p[etherSize:])
	case header.IPv6ProtocolNumber:
		b.receive6(frame, p[etherSize:])
	default:
		b.drop(frame)
	}
}

func (b *boot) drop(frame *buffer.View) {
	b.counters.dropped.Add(1)
	frame.Release()
}

// answerARP says where the gateway is, and no other.
func (b *boot) answerARP(p []byte) {
	arp := header.ARP(p)
	if !arp.IsValid() || arp.Op() != header.ARPRequest || addr(arp.ProtocolAddressTarget()) != b.cfg.Plan.Gateway4 {
		return
	}
	reply := header.ARP(make([]byte, header.ARPSize))
	reply.SetIPv4OverEthernet()
	reply.SetOp(header.ARPReply)
	copy(reply.HardwareAddressSender(), b.link.ours)
	copy(reply.ProtocolAddressSender(), arp.ProtocolAddressTarget())
	copy(reply.HardwareAddressTarget(), arp.HardwareAddressSender())
	copy(reply.ProtocolAddressTarget(), arp.ProtocolAddressSender())
	b.link.sendIP(header.ARPProtocolNumber, reply)
}

func (b *boot) receive4(frame *buffer.View, p []byte) {
	ip := header.IPv4(p)
	if !ip.IsValid(len(p)) || !ip.IsChecksumValid() {
		b.drop(frame)
		return
	}
	src, dst := addr(ip.SourceAddressSlice()), addr(ip.DestinationAddressSlice())
	if !b.cfg.Plan.Guest4.Contains(src) || src == b.cfg.Plan.Gateway4 || dst.IsMulticast() || dst == broadcast4() {
		b.drop(frame)
		return
	}
	fragment := ip.More() || ip.FragmentOffset() != 0
	switch ip.TransportProtocol() {
	case header.TCPProtocolNumber, header.UDPProtocolNumber:
		if s, ok := receivedSegment(ip); ok && !fragment {
			b.link.acks.received(s)
		}
		b.link.deliver(header.IPv4ProtocolNumber, frame)
	case header.ICMPv4ProtocolNumber:
		if icmp := header.ICMPv4(ip.Payload()); !fragment && len(icmp) >= header.ICMPv4MinimumSize && icmp.Type() == header.ICMPv4Echo {
			b.echo(src, dst, ip[:ip.TotalLength()], icmp)
		}
		frame.Release()
	default:
		b.unreachable(src, dst, ip[:ip.TotalLength()], noProtocol)
		frame.Release()
	}
}

func broadcast4() netip.Addr { return netip.AddrFrom4([4]byte{255, 255, 255, 255}) }

func (b *boot) receive6(frame *buffer.View, p []byte) {
	ip := header.IPv6(p)
	if !ip.IsValid(len(p)) {
		b.drop(frame)
		return
	}
	src, dst := addr(ip.SourceAddressSlice()), addr(ip.DestinationAddressSlice())
	whole := ip[:header.IPv6MinimumSize+int(ip.PayloadLength())]
	next := tcpip.TransportProtocolNumber(ip.NextHeader())
	if next == header.ICMPv6ProtocolNumber && answersNeighbour(header.ICMPv6(ip.Payload())) {
		b.answerNeighbour(src, header.ICMPv6(ip.Payload()))
		frame.Release()
		return
	}
	if !b.cfg.Plan.Guest6.Contains(src) || src == b.cfg.Plan.Gateway6 || dst.IsMulticast() {
		b.drop(frame) // link-local chatter above all
		return
	}
	if next == tcpip.TransportProtocolNumber(header.IPv6FragmentHeader) && len(ip.Payload()) >= header.IPv6FragmentHeaderSize {
		next = tcpip.TransportProtocolNumber(ip.Payload()[0])
		if next == header.ICMPv6ProtocolNumber {
			next = 0
		}
	}
	switch next {
	case header.TCPProtocolNumber, header.UDPProtocolNumber:
		if s, ok := receivedSegment(ip); ok {
			b.link.acks.received(s)
		}
		b.link.deliver(header.IPv6ProtocolNumber, frame)
		return
	case header.ICMPv6ProtocolNumber:
		if icmp := header.ICMPv6(ip.Payload()); len(icmp) >= header.ICMPv6EchoMinimumSize && icmp.Type() == header.ICMPv6EchoRequest {
			b.echo(src, dst, whole, icmp)
		}
	default:
		b.unreachable(src, dst, whole, noProtocol)
	}
	frame.Release()
}

func answersNeighbour(icmp header.ICMPv6) bool {
	return len(icmp) >= header.ICMPv6NeighborSolicitMinimumSize && icmp.Type() == header.ICMPv6NeighborSolicit
}

// answerNeighbour says where the gateway is, and no other.
func (b *boot) answerNeighbour(asker netip.Addr, icmp header.ICMPv6) {
	ask := header.NDPNeighborSolicit(icmp.MessageBody())
	target := ask.TargetAddress()
	if addr(target.AsSlice()) != b.cfg.Plan.Gateway6 || asker.IsUnspecified() {
		return
	}
	answer := header.ICMPv6(make([]byte, header.ICMPv6NeighborAdvertMinimumSize+8))
	answer.SetType(header.ICMPv6NeighborAdvert)
	advert := header.NDPNeighborAdvert(answer.MessageBody())
	advert.SetTargetAddress(target)
	advert.SetRouterFlag(true)
	advert.SetSolicitedFlag(true)
	advert.SetOverrideFlag(true)
	advert.Options().Serialize(header.NDPOptionsSerializer{header.NDPTargetLinkLayerAddressOption(b.link.ours)})
	b.sendICMP(b.cfg.Plan.Gateway6, asker, answer)
}

// addr is 4 or 16 bytes as an address.
func addr(b []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(b)
	return a
}

func tcpipAddr(a netip.Addr) tcpip.Address { return tcpip.AddrFromSlice(a.AsSlice()) }

// reason is why a packet of the guest cannot be carried.
type reason int

const (
	noRoute reason = iota
	noHost
	prohibited
	noPort
	noProtocol
)

// unreachable tells the guest that its packet was not carried.
func (b *boot) unreachable(src, dst netip.Addr, packet []byte, why reason) {
	if src.Is4() {
		code := map[reason]header.ICMPv4Code{
			noRoute: header.ICMPv4NetUnreachable, noHost: header.ICMPv4HostUnreachable, prohibited: header.ICMPv4AdminProhibited,
			noPort: header.ICMPv4PortUnreachable, noProtocol: header.ICMPv4ProtoUnreachable,
		}[why]
		quote := packet[:min(len(packet), 576-header.IPv4MinimumSize-header.ICMPv4MinimumSize)]
		icmp := header.ICMPv4(make([]byte, header.ICMPv4MinimumSize, header.ICMPv4MinimumSize+len(quote)))
		icmp.SetType(header.ICMPv4DstUnreachable)
		icmp.SetCode(code)
		b.sendICMP(dst, src, append(icmp, quote...))
		return
	}
	code := map[reason]header.ICMPv6Code{
		noRoute: header.ICMPv6NetworkUnreachable, noHost: header.ICMPv6AddressUnreachable, prohibited: header.ICMPv6Prohibited,
		noPort: header.ICMPv6PortUnreachable, noProtocol: header.ICMPv6Prohibited,
	}[why]
	quote := packet[:min(len(packet), header.IPv6MinimumMTU-header.IPv6MinimumSize-header.ICMPv6DstUnreachableMinimumSize)]
	icmp := header.ICMPv6(make([]byte, header.ICMPv6DstUnreachableMinimumSize, header.ICMPv6DstUnreachableMinimumSize+len(quote)))
	icmp.SetType(header.ICMPv6DstUnreachable)
	icmp.SetCode(code)
	b.sendICMP(dst, src, append(icmp, quote...))
}

// sendICMP sends the guest a message, whose checksum it sets.
func (b *boot) sendICMP(src, dst netip.Addr, message []byte) {
	if src.Is4() {
		icmp := header.ICMPv4(message)
		icmp.SetChecksum(0)
		icmp.SetChecksum(header.ICMPv4Checksum(icmp, 0))
		b.sendPacket(src, dst, header.ICMPv4ProtocolNumber, message)
		return
	}
	icmp := header.ICMPv6(message)
	icmp.SetChecksum(0)
	icmp.SetChecksum(header.ICMPv6Checksum(header.ICMPv6ChecksumParams{Header: icmp, Src: tcpipAddr(src), Dst: tcpipAddr(dst)}))
	b.sendPacket(src, dst, header.ICMPv6ProtocolNumber, message)
}

// sendUDP sends the guest a datagram.
func (b *boot) sendUDP(src, dst netip.AddrPort, payload []byte) {
	size := header.UDPMinimumSize + len(payload)
	if size > math.MaxUint16 {
		b.counters.dropped.Add(1)
		return
	}
	p := make([]byte, size)
	copy(p[header.UDPMinimumSize:], payload)
	udp := header.UDP(p)
	udp.Encode(&header.UDPFields{SrcPort: src.Port(), DstPort: dst.Port(), Length: uint16(size)})
	sum := header.PseudoHeaderChecksum(header.UDPProtocolNumber, tcpipAddr(src.Addr()), tcpipAddr(dst.Addr()), uint16(size))
	udp.SetChecksum(0)
	sum = ^checksumOf(p, sum)
	if sum == 0 {
		sum = 0xffff
	}
	udp.SetChecksum(sum)
	b.sendPacket(src.Addr(), dst.Addr(), header.UDPProtocolNumber, p)
}

// quoted rebuilds the beginning of a packet of the guest, as much of it as an
// ICMP message must quote: the IP header and 8 bytes.
func quoted(src, dst netip.AddrPort, protocol tcpip.TransportProtocolNumber, sequence uint32) []byte {
	p := make([]byte, 0, header.IPv6MinimumSize+8)
	if src.Addr().Is6() {
		p = p[:header.IPv6MinimumSize]
		header.IPv6(p).Encode(&header.IPv6Fields{
			PayloadLength: header.TCPMinimumSize, TransportProtocol: protocol, HopLimit: 64,
			SrcAddr: tcpipAddr(src.Addr()), DstAddr: tcpipAddr(dst.Addr()),
		})
	} else {
		p = p[:header.IPv4MinimumSize]
		ip := header.IPv4(p)
		ip.Encode(&header.IPv4Fields{
			TotalLength: header.IPv4MinimumSize + header.TCPMinimumSize, TTL: 64, Protocol: uint8(protocol),
			SrcAddr: tcpipAddr(src.Addr()), DstAddr: tcpipAddr(dst.Addr()),
		})
		ip.SetChecksum(^ip.CalculateChecksum())
	}
	p = binary.BigEndian.AppendUint16(p, src.Port())
	p = binary.BigEndian.AppendUint16(p, dst.Port())
	return binary.BigEndian.AppendUint32(p, sequence)
}
