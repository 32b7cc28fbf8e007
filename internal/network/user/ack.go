package user

import (
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

const (
	// ackWait is how long an acknowledgement waits for an answer to go with. It is
	// short for the guests that send no more before they have it.
	ackWait = 5 * time.Millisecond
	// ackSmall is the most of a segment that may be a question: what a guest
	// uploads is acknowledged at once.
	ackSmall = 1400
)

// acks holds back acknowledgements. The stack sends one for every segment, and
// often, a moment later, an answer of the host's peer that says the same again.
// To a guest each packet is an interrupt, and that costs more than all that is
// between the guest and its peer.
type acks struct {
	send func(*stack.PacketBuffer) // what has waited long enough; it takes the reference
	wait time.Duration             // ackWait

	mu      sync.Mutex
	came    segment             // the guest's newest
	held    *stack.PacketBuffer // at most one
	holds   segment             // what held is
	until   time.Time           // when held has waited long enough
	timer   *time.Timer         // nil while nothing is held
	stopped bool
}

// segment is what counts of a TCP segment here.
type segment struct {
	id    stack.TransportEndpointID // local is the stack's side
	flags header.TCPFlags
	data  int    // bytes of it
	next  uint32 // the sequence number after it
	ack   uint32
}

// received takes note of a segment of the guest.
func (a *acks) received(s segment) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.came = s
}

// pass says what is to be sent when the stack sends a packet: what was held, if
// the packet does not say the same, and whether the packet itself.
func (a *acks) pass(pkt *stack.PacketBuffer) (before *stack.PacketBuffer, now bool) {
	s, ok := sentSegment(pkt)
	if !ok {
		return nil, true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	before, a.held = a.held, nil
	if before != nil && s.id == a.holds.id && s.flags.Contains(header.TCPFlagAck) && int32(s.ack-a.holds.ack) >= 0 {
		before.DecRef()
		before = nil
	}
	if a.stopped || !a.waits(s) {
		return before, true
	}
	a.held, a.holds, a.until = pkt.IncRef(), s, time.Now().Add(a.wait)
	if a.timer == nil {
		a.timer = time.AfterFunc(a.wait, a.waited)
	}
	return before, false
}

// waits says whether a segment does nothing but acknowledge the little that has
// just come.
func (a *acks) waits(s segment) bool {
	return s.flags == header.TCPFlagAck && s.data == 0 && s.id == a.came.id && s.ack == a.came.next &&
		a.came.data <= ackSmall && (a.came.data > 0 || a.came.flags.Contains(header.TCPFlagFin))
}

// waited sends what is held, if its time has come. The timer goes on until then,
// for to set it for every segment would wake a thread each time.
func (a *acks) waited() {
	a.mu.Lock()
	pkt := a.held
	if rest := time.Until(a.until); pkt != nil && rest > 0 {
		a.timer.Reset(rest)
		pkt = nil
	} else {
		a.held, a.timer = nil, nil
	}
	a.mu.Unlock()
	if pkt != nil {
		a.send(pkt)
	}
}

// stop drops what is held; nothing is any more.
func (a *acks) stop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stopped = true
	if a.timer != nil {
		a.timer.Stop()
	}
	if a.held != nil {
		a.held.DecRef()
		a.held = nil
	}
}

// sentSegment is the segment that the stack made a packet of, if it is one.
func sentSegment(pkt *stack.PacketBuffer) (segment, bool) {
	tcp := header.TCP(pkt.TransportHeader().Slice())
	if pkt.TransportProtocolNumber != header.TCPProtocolNumber || len(tcp) < header.TCPMinimumSize {
		return segment{}, false
	}
	var ip header.Network
	switch pkt.NetworkProtocolNumber {
	case header.IPv4ProtocolNumber:
		ip = header.IPv4(pkt.NetworkHeader().Slice())
	case header.IPv6ProtocolNumber:
		ip = header.IPv6(pkt.NetworkHeader().Slice())
	default:
		return segment{}, false
	}
	id := stack.TransportEndpointID{
		LocalAddress: ip.SourceAddress(), LocalPort: tcp.SourcePort(),
		RemoteAddress: ip.DestinationAddress(), RemotePort: tcp.DestinationPort(),
	}
	return newSegment(id, tcp, pkt.Data().Size()), true
}

// receivedSegment is the segment in a packet of the guest, if it has a whole one.
func receivedSegment(ip header.Network) (segment, bool) {
	tcp := header.TCP(ip.Payload())
	if ip.TransportProtocol() != header.TCPProtocolNumber || len(tcp) < header.TCPMinimumSize || int(tcp.DataOffset()) > len(tcp) {
		return segment{}, false
	}
	id := stack.TransportEndpointID{
		LocalAddress: ip.DestinationAddress(), LocalPort: tcp.DestinationPort(),
		RemoteAddress: ip.SourceAddress(), RemotePort: tcp.SourcePort(),
	}
	return newSegment(id, tcp, len(tcp)-int(tcp.DataOffset())), true
}

func newSegment(id stack.TransportEndpointID, tcp header.TCP, data int) segment {
	s := segment{id: id, flags: tcp.Flags(), data: data, next: tcp.SequenceNumber() + uint32(data), ack: tcp.AckNumber()}
	if s.flags.Contains(header.TCPFlagFin) {
		s.next++
	}
	return s
}
