package publish

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"banger.dev/banger/internal/agent/relay"
	"banger.dev/banger/internal/agent/wire"
)

// flows are the clients of one UDP port. A client is an address of the host or
// beyond; its datagrams are a flow until none has passed for a while.
type flows struct {
	set *Set
	l   *published

	mu   sync.Mutex
	live map[netip.AddrPort]*flow
}

// flow is one client's datagrams.
type flow struct {
	client netip.AddrPort
	in     chan []byte   // to the guest; each with room for a piece's header
	ended  chan struct{} // closed when it has no more use
	end    func()
	idle   *time.Timer
}

// receive takes the datagrams of a UDP port until it is closed.
func (s *Set) receive(l *published) {
	f := &flows{set: s, l: l, live: map[netip.AddrPort]*flow{}}
	buf := make([]byte, wire.MaxPiece)
	for {
		n, client, err := l.udp.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil { // others are about a datagram of ours that was not wanted
			f.take(client, buf[:n])
		}
	}
}

// take queues a datagram; without room it is dropped, as datagrams may be.
func (f *flows) take(client netip.AddrPort, datagram []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	one := f.flowLocked(client)
	if one == nil {
		return
	}
	piece := append(make([]byte, wire.PieceHeaderSize), datagram...)
	if f.set.queued.Add(int64(len(piece))) <= maxQueued {
		select {
		case one.in <- piece:
			one.idle.Reset(f.set.idle)
			return
		default:
		}
	}
	f.set.queued.Add(-int64(len(piece)))
}

// flowLocked is the client's flow, or nil if there are too many.
func (f *flows) flowLocked(client netip.AddrPort) *flow {
	if one := f.live[client]; one != nil {
		return one
	}
	select {
	case f.set.flows <- struct{}{}:
	default:
		return nil
	}
	one := &flow{client: client, in: make(chan []byte, flowQueue), ended: make(chan struct{})}
	one.end = sync.OnceFunc(func() { close(one.ended) })
	one.idle = time.AfterFunc(f.set.idle, one.end)
	f.live[client] = one
	f.set.wg.Go(func() { f.carry(one) })
	return one
}

// carry carries a flow until it is idle, the guest breaks it off or the port is
// closed.
func (f *flows) carry(one *flow) {
	defer func() {
		one.end()
		one.idle.Stop()
		f.forget(one)
		<-f.set.flows
	}()
	stream, err := f.set.connect(f.l)
	if err != nil {
		return
	}
	var back sync.WaitGroup
	back.Go(func() {
		f.replies(one, stream)
		one.end()
	})
	back.Go(func() { // also ends a write that the guest does not take
		select {
		case <-one.ended:
		case <-f.l.ctx.Done():
			one.end()
		}
		relay.Close(stream)
	})
	for {
		select {
		case piece := <-one.in:
			if relay.SendDatagram(stream, piece) != nil {
				one.end()
			}
			f.set.queued.Add(-int64(len(piece)))
			continue
		case <-one.ended:
		}
		break
	}
	back.Wait()
}

// forget drops a flow with what is still queued.
func (f *flows) forget(one *flow) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.live, one.client)
	for {
		select {
		case piece := <-one.in:
			f.set.queued.Add(-int64(len(piece)))
		default:
			return
		}
	}
}

func (f *flows) replies(one *flow, stream net.Conn) {
	buf := make([]byte, wire.MaxPiece)
	for {
		n, err := relay.ReceiveDatagram(stream, buf)
		if err != nil {
			return
		}
		one.idle.Reset(f.set.idle)
		_, _ = f.l.udp.WriteToUDPAddrPort(buf[:n], one.client)
	}
}
