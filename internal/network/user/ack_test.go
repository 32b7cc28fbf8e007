package user

import (
	"io"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"banger.dev/banger/internal/network"
)

// of is the same segment of the connection that the guest has made from a port.
func (s segment) of(port uint16) segment {
	s.id = stack.TransportEndpointID{
		LocalAddress: tcpipAddr(outside4()), LocalPort: 80,
		RemoteAddress: tcpipAddr(network.User().Guest4.Addr()), RemotePort: port,
	}
	return s
}

// packet is a segment as the stack sends it.
func (s segment) packet() *stack.PacketBuffer {
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{
		ReserveHeaderBytes: header.IPv4MinimumSize + header.TCPMinimumSize,
		Payload:            buffer.MakeWithData(make([]byte, s.data)),
	})
	pkt.TransportProtocolNumber, pkt.NetworkProtocolNumber = header.TCPProtocolNumber, header.IPv4ProtocolNumber
	header.TCP(pkt.TransportHeader().Push(header.TCPMinimumSize)).Encode(&header.TCPFields{
		SrcPort: s.id.LocalPort, DstPort: s.id.RemotePort, AckNum: s.ack, DataOffset: header.TCPMinimumSize, Flags: s.flags,
	})
	header.IPv4(pkt.NetworkHeader().Push(header.IPv4MinimumSize)).Encode(&header.IPv4Fields{
		Protocol: uint8(header.TCPProtocolNumber), SrcAddr: s.id.LocalAddress, DstAddr: s.id.RemoteAddress,
	})
	return pkt
}

func TestAcknowledgementsThatWait(t *testing.T) {
	const ack, push, fin = header.TCPFlagAck, header.TCPFlagPsh, header.TCPFlagFin
	question, answer := segment{flags: ack | push, data: 64, next: 164}.of(1), segment{flags: ack | push, data: 64, ack: 164}.of(1)
	bare := segment{flags: ack, ack: 164}.of(1)
	for name, test := range map[string]struct {
		came segment
		sent []segment
		want []int // indices of what is passed on, in order
	}{
		"goes with the answer":       {question, []segment{bare, answer}, []int{1}},
		"goes with the end":          {question, []segment{bare, segment{flags: ack | fin, ack: 164}.of(1)}, []int{1}},
		"is none of a reset":         {question, []segment{bare, segment{flags: header.TCPFlagRst}.of(1)}, []int{0, 1}},
		"older does not stand for":   {question, []segment{bare, segment{flags: ack | push, data: 9, ack: 100}.of(1)}, []int{0, 1}},
		"another connection's":       {question, []segment{bare, segment{flags: ack | push, data: 64, ack: 164}.of(2)}, []int{0, 1}},
		"of an upload":               {segment{flags: ack, data: 60000, next: 164}.of(1), []segment{bare}, []int{0}},
		"of nothing new":             {segment{flags: ack, next: 164}.of(1), []segment{bare}, []int{0}},
		"of less than all":           {question, []segment{segment{flags: ack, ack: 150}.of(1)}, []int{0}},
		"of an end goes with an end": {segment{flags: ack | fin, next: 164}.of(1), []segment{bare, segment{flags: ack | fin, ack: 164}.of(1)}, []int{1}},
	} {
		t.Run(name, func(t *testing.T) {
			a := &acks{wait: time.Hour, send: func(*stack.PacketBuffer) { t.Error("it was sent by the clock") }}
			defer a.stop()
			var packets, passed []*stack.PacketBuffer
			a.received(test.came)
			for _, s := range test.sent {
				pkt := s.packet()
				packets = append(packets, pkt)
				before, now := a.pass(pkt)
				if before != nil {
					passed = append(passed, before)
				}
				if now {
					passed = append(passed, pkt)
				}
			}
			var got []int
			for _, pkt := range passed {
				got = append(got, slices.Index(packets, pkt))
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("passed on: %v, want %v", got, test.want)
			}
		})
	}
}

// TestQuestionWithoutAnswer: an acknowledgement does not wait for ever.
func TestQuestionWithoutAnswer(t *testing.T) {
	to := serve(t, outside4(), func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) })
	_, card := bare(t, func(a netip.Addr) bool { return a == outside4() })
	put(t, card, syn(1024, to))
	theirs := header.TCP(header.IPv4(take(t, card)[etherSize:]).Payload()).SequenceNumber()
	put(t, card, tcpFrame(1024, to, header.TCPFields{SeqNum: 2, AckNum: theirs + 1, Flags: header.TCPFlagAck | header.TCPFlagPsh}, "?"))
	got := header.TCP(header.IPv4(take(t, card)[etherSize:]).Payload())
	if got.AckNumber() != 3 || len(got.Payload()) > 0 {
		t.Errorf("the guest's question of one byte is acknowledged as far as %d", got.AckNumber())
	}
}
