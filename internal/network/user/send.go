package user

import (
	"encoding/binary"
	"iter"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// hops is the hop limit of what we send; neighbour discovery wants all of them.
const hops = 255

// sendPacket sends the guest what is an IP packet, or some fragments of one.
func (b *boot) sendPacket(src, dst netip.Addr, protocol tcpip.TransportProtocolNumber, payload []byte) {
	if src.Is6() {
		b.sendPacket6(src, dst, protocol, payload)
	} else {
		b.sendPacket4(src, dst, protocol, payload)
	}
}

func (b *boot) sendPacket4(src, dst netip.Addr, protocol tcpip.TransportProtocolNumber, payload []byte) {
	const head = header.IPv4MinimumSize
	fields := header.IPv4Fields{TTL: hops, Protocol: uint8(protocol), SrcAddr: tcpipAddr(src), DstAddr: tcpipAddr(dst)}
	room := b.cfg.Plan.MTU - head
	if len(payload) <= room {
		fields.Flags = header.IPv4FlagDontFragment
	} else {
		fields.ID = uint16(b.fragmented.Add(1))
	}
	for offset, piece := range pieces(payload, room) {
		p := append(make([]byte, head, head+len(piece)), piece...)
		if offset+len(piece) < len(payload) {
			fields.Flags = header.IPv4FlagMoreFragments
		} else if offset > 0 {
			fields.Flags = 0
		}
		fields.FragmentOffset, fields.TotalLength = uint16(offset), uint16(len(p))
		ip := header.IPv4(p)
		ip.Encode(&fields)
		ip.SetChecksum(^ip.CalculateChecksum())
		b.link.sendIP(header.IPv4ProtocolNumber, p)
	}
}

func (b *boot) sendPacket6(src, dst netip.Addr, protocol tcpip.TransportProtocolNumber, payload []byte) {
	head, room := header.IPv6MinimumSize, b.cfg.Plan.MTU-header.IPv6MinimumSize
	fields := header.IPv6Fields{TransportProtocol: protocol, HopLimit: hops, SrcAddr: tcpipAddr(src), DstAddr: tcpipAddr(dst)}
	whole := len(payload) <= room
	var id uint32
	if !whole {
		head, room, id = head+header.IPv6FragmentHeaderSize, room-header.IPv6FragmentHeaderSize, b.fragmented.Add(1)
		fields.TransportProtocol = tcpip.TransportProtocolNumber(header.IPv6FragmentHeader)
	}
	for offset, piece := range pieces(payload, room) {
		p := append(make([]byte, head, head+len(piece)), piece...)
		if !whole {
			more := uint16(0)
			if offset+len(piece) < len(payload) {
				more = 1
			}
			fragment := p[header.IPv6MinimumSize:]
			fragment[0] = uint8(protocol)
			binary.BigEndian.PutUint16(fragment[2:], uint16(offset)|more) // in units of 8, 3 bits up
			binary.BigEndian.PutUint32(fragment[4:], id)
		}
		fields.PayloadLength = uint16(len(p) - header.IPv6MinimumSize)
		header.IPv6(p).Encode(&fields)
		b.link.sendIP(header.IPv6ProtocolNumber, p)
	}
}

// pieces are the parts of a payload by their offsets: all of it if there is
// room, else as many whole units of 8 bytes as there is room for in each.
func pieces(payload []byte, room int) iter.Seq2[int, []byte] {
	if len(payload) > room {
		room &^= 7
	}
	return func(yield func(int, []byte) bool) {
		for offset := 0; offset == 0 || offset < len(payload); offset += room {
			if !yield(offset, payload[offset:min(len(payload), offset+room)]) {
				return
			}
		}
	}
}
