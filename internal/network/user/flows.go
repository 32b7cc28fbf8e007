package user

import (
	"container/list"
	"errors"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// flowTimeout is how long a flow without packets is kept.
const flowTimeout = 2 * time.Minute

// flowKey is one flow; of an echo flow the ports are its identifier and 0.
type flowKey struct {
	protocol tcpip.TransportProtocolNumber
	src, dst netip.AddrPort
}

// flow is what the guest sends to one place without a connection, and its answers.
type flow struct {
	key    flowKey
	socket Socket
	used   time.Time // guarded by flows.mu
	place  *list.Element
	last   []byte // the beginning of the newest packet, for an ICMP message; guarded by flows.mu
}

// flows are all of one boot. When there are too many the one unused longest goes.
type flows struct {
	b *boot

	mu     sync.Mutex
	byKey  map[flowKey]*flow
	order  *list.List // of *flow, the one used last in front
	sweep  *time.Timer
	closed bool
}

func newFlows(b *boot) *flows {
	return &flows{b: b, byKey: map[flowKey]*flow{}, order: list.New()}
}

// handleUDP takes a datagram of the guest.
func (f *flows) handleUDP(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	b := f.b
	src, dst := addrPort(id.RemoteAddress, id.RemotePort), addrPort(id.LocalAddress, id.LocalPort)
	payload := pkt.Data().AsRange().ToSlice()
	if dst.Addr() == b.cfg.Plan.Gateway4 || dst.Addr() == b.cfg.Plan.Gateway6 {
		if dst.Port() != dnsPort {
			return false // the stack says that nobody listens
		}
		b.names.serveUDP(b, src, dst, payload)
		return true
	}
	quote := func() []byte {
		return quoted(src, dst, header.UDPProtocolNumber, uint32(len(payload)+header.UDPMinimumSize)<<16)
	}
	if !b.allows(dst.Addr()) {
		b.unreachable(src.Addr(), dst.Addr(), quote(), prohibited)
		return true
	}
	f.send(flowKey{header.UDPProtocolNumber, src, dst}, payload, quote(), func() (Socket, error) {
		return b.cfg.Dial(b.ctx, "udp", dst)
	})
	return true
}

// send sends one packet of a flow, which begins with it if there is none.
func (f *flows) send(key flowKey, payload, quote []byte, dial func() (Socket, error)) {
	fl, err := f.get(key, quote, dial)
	if fl != nil {
		err = write(fl.socket, payload)
	}
	f.report(key, quote, err)
}

// write sends a packet without waiting: where the host has no room it is lost.
// An error may be that of an earlier one, so it is tried twice.
func write(socket Socket, p []byte) error {
	if e, ok := socket.(*echoSocket); ok {
		p = e.request(p)
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	for range 2 {
		var sent error
		err = raw.Write(func(fd uintptr) bool {
			_, sent = writeNow(fd, p)
			return true
		})
		if err != nil { // dropped meanwhile
			return nil
		}
		if !errors.Is(sent, syscall.ECONNREFUSED) {
			return sent
		}
		err = sent
	}
	return err
}

// report tells the guest of an error of one of its flows.
func (f *flows) report(key flowKey, quote []byte, err error) {
	why, ok := unreachableBy(err)
	if errors.Is(err, syscall.ECONNREFUSED) {
		why, ok = noPort, true
	}
	if ok && key.src.Addr().IsValid() {
		f.b.unreachable(key.src.Addr(), key.dst.Addr(), quote, why)
	}
}

// get finds a flow or begins it; nil without an error when the boot is over.
func (f *flows) get(key flowKey, quote []byte, dial func() (Socket, error)) (*flow, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, nil
	}
	if fl := f.byKey[key]; fl != nil {
		fl.last = quote
		f.touchLocked(fl)
		return fl, nil
	}
	socket, err := dial() // without a handshake it does not wait
	if err != nil {
		return nil, err
	}
	if len(f.byKey) >= maxFlows {
		f.dropLocked(f.order.Back().Value.(*flow))
	}
	fl := &flow{key: key, socket: socket, used: time.Now(), last: quote}
	fl.place = f.order.PushFront(fl)
	f.byKey[key] = fl
	f.b.counters.flows.Add(1)
	if f.sweep == nil {
		f.sweep = time.AfterFunc(flowTimeout, f.clean)
	}
	f.b.wg.Go(func() { f.answers(fl) })
	return fl, nil
}

func (f *flows) touchLocked(fl *flow) {
	fl.used = time.Now()
	f.order.MoveToFront(fl.place)
}

// dropLocked forgets a flow; its reader ends by itself.
func (f *flows) dropLocked(fl *flow) {
	if f.byKey[fl.key] != fl {
		return
	}
	delete(f.byKey, fl.key)
	f.order.Remove(fl.place)
	f.b.counters.flows.Add(-1)
	_ = fl.socket.Close()
}

// clean drops what has not been used for long. It runs only while there are flows.
func (f *flows) clean() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.order.Len() > 0 {
		oldest := f.order.Back().Value.(*flow)
		if rest := flowTimeout - time.Since(oldest.used); rest > 0 {
			f.sweep.Reset(rest)
			return
		}
		f.dropLocked(oldest)
	}
	f.sweep = nil
}

func (f *flows) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	if f.sweep != nil {
		f.sweep.Stop()
	}
	for _, fl := range f.byKey {
		f.dropLocked(fl)
	}
}

// answers takes a flow's answers until it is dropped.
func (f *flows) answers(fl *flow) {
	raw, err := fl.socket.SyscallConn()
	for err == nil {
		var n int
		var from error
		var buf *[chunk]byte
		err = raw.Read(func(fd uintptr) bool {
			buf = f.b.chunks.get()
			n, from = readNow(fd, buf[:])
			if errors.Is(from, syscall.EAGAIN) {
				f.b.chunks.put(buf)
				buf = nil
				return false
			}
			return true
		})
		if buf == nil {
			continue
		}
		if err == nil {
			f.answer(fl, buf[:max(n, 0)], from)
		}
		f.b.chunks.put(buf)
	}
	f.mu.Lock()
	f.dropLocked(fl)
	f.mu.Unlock()
}

func (f *flows) answer(fl *flow, p []byte, err error) {
	f.mu.Lock()
	quote := fl.last
	if err == nil {
		f.touchLocked(fl)
	}
	f.mu.Unlock()
	switch {
	case err != nil:
		f.report(fl.key, quote, err)
	case fl.key.protocol == header.UDPProtocolNumber:
		f.b.sendUDP(fl.key.dst, fl.key.src, p)
	default:
		if reply := fl.socket.(*echoSocket).answer(p, fl.key.src.Port()); reply != nil {
			f.b.sendICMP(fl.key.dst.Addr(), fl.key.src.Addr(), reply)
		}
	}
}
