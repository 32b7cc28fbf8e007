package user

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

const (
	lengthSize = 4
	etherSize  = header.EthernetMinimumSize
	// maxFrame is the largest frame that QEMU sends (NET_BUFSIZE of its net/net.h).
	maxFrame = 4096 + 65536
	// readBuffer is how much is read of small frames at once.
	readBuffer = 32 << 10
	// batchSize is how much is written at once.
	batchSize = 128 << 10
	// smallFrame is the largest that is written by whoever sends it.
	smallFrame = 4 << 10
	// maxQueued bounds what waits for a guest that does not read: like a network
	// card's queue, what is beyond is dropped, and TCP sends it again.
	maxQueued = 4 << 20
)

// busyBytes is how much is moved between two calls of Config.Busy.
const busyBytes = 1 << 20

// link is the stack's network card: frames to and from a stream. It is a
// stack.LinkEndpoint. Written frames are queued, so that a guest that does not
// read stops nobody but itself.
type link struct {
	stream   Stream
	raw      syscall.RawConn // of stream
	mtu      uint32
	ours     tcpip.LinkAddress
	guest    tcpip.LinkAddress
	counters *counters
	busy     func()
	acks     acks

	mu         sync.Mutex
	dispatcher stack.NetworkDispatcher
	small      []byte // what send writes itself
	cut        []byte // the rest of it, which goes before the queue
	queue      []*stack.PacketBuffer
	queued     int           // bytes
	writing    bool          // the queue is write's: it may have taken packets from it
	closed     bool          // nothing is queued any more
	wake       chan struct{} // has a value when the queue was empty and is no longer
}

func newLink(stream Stream, mtu uint32, ours, guest tcpip.LinkAddress, c *counters, busy func()) (*link, error) {
	raw, err := stream.SyscallConn()
	if err != nil {
		return nil, err
	}
	l := &link{stream: stream, raw: raw, mtu: mtu, ours: ours, guest: guest, counters: c, busy: busy, wake: make(chan struct{}, 1)}
	l.acks.send, l.acks.wait = l.sendOwn, ackWait
	return l, nil
}

var errFrameSize = errors.New("the VMM sent a frame of impossible size")

// read hands every frame to deliver until the stream ends. A frame belongs to
// its receiver.
func (l *link) read(deliver func(*buffer.View)) error {
	in := bufio.NewReaderSize(waiting{l.raw}, readBuffer)
	var length [lengthSize]byte
	var told uint64
	for {
		if _, err := io.ReadFull(in, length[:]); err != nil {
			return ended(err)
		}
		size := binary.BigEndian.Uint32(length[:])
		if size > maxFrame { // there is no telling where the next begins
			return fmt.Errorf("%w: %d", errFrameSize, size)
		}
		frame := buffer.NewViewSize(int(size))
		if _, err := io.ReadFull(in, frame.AsSlice()); err != nil {
			frame.Release()
			return ended(err)
		}
		l.counters.fromBytes.Add(uint64(size))
		l.counters.fromPackets.Add(1)
		deliver(frame)
		if all := l.counters.fromBytes.Load() + l.counters.toBytes.Load(); all-told >= busyBytes {
			told = all
			l.busy()
		}
	}
}

// ended makes the end of the stream nil, wherever it came.
func ended(err error) error {
	if errors.Is(err, os.ErrClosed) || errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}

// write sends what is queued until the link is closed.
func (l *link) write() error {
	batch := make([]byte, 0, batchSize)
	for range l.wake {
		for {
			var packets []*stack.PacketBuffer
			batch, packets = l.take(batch[:0])
			if len(batch) == 0 && len(packets) == 0 {
				break
			}
			var err error
			for _, pkt := range packets {
				if err == nil && len(batch) > 0 && len(batch)+lengthSize+pkt.Size() > batchSize {
					_, err = l.stream.Write(batch)
					batch = batch[:0]
				}
				batch = appendFrame(batch, pkt)
				l.count(pkt)
				pkt.DecRef()
			}
			if err == nil {
				_, err = l.stream.Write(batch)
			}
			if err != nil {
				return ended(err)
			}
		}
	}
	return nil
}

// appendFrame appends a packet as the stream carries it.
func appendFrame(b []byte, pkt *stack.PacketBuffer) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(pkt.Size()))
	for _, part := range pkt.AsSlices() {
		b = append(b, part...)
	}
	return b
}

func (l *link) count(pkt *stack.PacketBuffer) {
	l.counters.toBytes.Add(uint64(pkt.Size()))
	l.counters.toPackets.Add(1)
}

// take gives write the queue, and what goes before it. Until it finds nothing,
// the stream is write's alone.
func (l *link) take(batch []byte) ([]byte, []*stack.PacketBuffer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	batch, packets := append(batch, l.cut...), l.queue
	l.cut, l.queue, l.queued = nil, nil, 0
	l.writing = len(batch) > 0 || len(packets) > 0
	return batch, packets
}

// packetOverhead is about what netstack needs to hold a packet, in bytes: many
// small ones count for more than what is in them.
const packetOverhead = 512

// send writes a packet that begins with its Ethernet header, or queues it; then
// it takes a reference of its own.
func (l *link) send(pkt *stack.PacketBuffer) tcpip.Error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return &tcpip.ErrClosedForSend{}
	case l.queued > maxQueued:
		l.counters.dropped.Add(1)
		return &tcpip.ErrNoBufferSpace{}
	case !l.writing && len(l.queue) == 0 && len(l.cut) == 0 && pkt.Size() <= smallFrame && l.sendSmall(pkt):
		return nil
	}
	l.queue = append(l.queue, pkt.IncRef())
	l.queued += pkt.Size() + packetOverhead
	l.wakeWrite()
	return nil
}

func (l *link) wakeWrite() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// sendSmall writes a packet if there is room in the stream. The guest has it a
// goroutine's turn earlier than from the queue.
func (l *link) sendSmall(pkt *stack.PacketBuffer) bool {
	l.small = appendFrame(l.small[:0], pkt)
	var n int
	err := l.raw.Write(func(fd uintptr) bool {
		n, _ = writeNow(fd, l.small)
		return true
	})
	if err != nil || n <= 0 { // no room, or an error that write meets too
		return false
	}
	l.count(pkt)
	if n < len(l.small) {
		l.cut = l.small[n:]
		l.small = nil
		l.wakeWrite()
	}
	return true
}

// sendOwn queues a packet whose reference it is given.
func (l *link) sendOwn(pkt *stack.PacketBuffer) {
	_ = l.send(pkt) // a full queue drops, as a network does
	pkt.DecRef()
}

// sendIP queues an IP packet.
func (l *link) sendIP(protocol tcpip.NetworkProtocolNumber, packet []byte) {
	frame := buffer.NewViewSize(etherSize + len(packet))
	b := frame.AsSlice()
	l.ether(b, protocol)
	copy(b[etherSize:], packet)
	l.sendOwn(stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithView(frame)}))
}

func (l *link) ether(b []byte, protocol tcpip.NetworkProtocolNumber) {
	header.Ethernet(b).Encode(&header.EthernetFields{SrcAddr: l.ours, DstAddr: l.guest, Type: protocol})
}

// shut ends write and drops what is queued.
func (l *link) shut() {
	l.acks.stop()
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		close(l.wake)
	}
	packets := l.queue
	l.queue = nil
	l.mu.Unlock()
	for _, pkt := range packets {
		pkt.DecRef()
	}
}

// deliver gives the stack a frame's IP packet.
func (l *link) deliver(protocol tcpip.NetworkProtocolNumber, frame *buffer.View) {
	l.mu.Lock()
	d := l.dispatcher
	l.mu.Unlock()
	if d == nil {
		frame.Release()
		return
	}
	frame.TrimFront(etherSize)
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithView(frame)})
	d.DeliverNetworkPacket(protocol, pkt)
	pkt.DecRef()
}

// WritePackets implements stack.LinkEndpoint.
func (l *link) WritePackets(packets stack.PacketBufferList) (int, tcpip.Error) {
	for n, pkt := range packets.AsSlice() {
		l.ether(pkt.LinkHeader().Push(etherSize), pkt.NetworkProtocolNumber)
		before, now := l.acks.pass(pkt)
		if before != nil {
			l.sendOwn(before)
		}
		if !now {
			continue
		}
		if err := l.send(pkt); err != nil {
			return n, err
		}
	}
	return packets.Len(), nil
}

// Attach implements stack.LinkEndpoint.
func (l *link) Attach(d stack.NetworkDispatcher) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dispatcher = d
}

// IsAttached implements stack.LinkEndpoint.
func (l *link) IsAttached() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dispatcher != nil
}

// Capabilities implements stack.LinkEndpoint. A stream does not garble what it
// carries: what the guest sends is not summed again.
func (*link) Capabilities() stack.LinkEndpointCapabilities {
	return stack.CapabilityRXChecksumOffload
}

// The rest of stack.LinkEndpoint.

func (l *link) MTU() uint32                                { return l.mtu }
func (*link) SetMTU(uint32)                                {}
func (*link) MaxHeaderLength() uint16                      { return etherSize }
func (l *link) LinkAddress() tcpip.LinkAddress             { return l.ours }
func (*link) SetLinkAddress(tcpip.LinkAddress)             {}
func (*link) Wait()                                        {}
func (*link) ARPHardwareType() header.ARPHardwareType      { return header.ARPHardwareEther }
func (*link) AddHeader(*stack.PacketBuffer)                {}
func (*link) ParseHeader(*stack.PacketBuffer) (valid bool) { return true }
func (*link) Close()                                       {}
func (*link) SetOnCloseAction(func())                      {}
