package user

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// Buffers of a connection: a few have much, many have little, so that all
// together are bounded.
const (
	fewConnections = 16
	wideWindow     = 1 << 20 // the first window of one of few
	narrowWindow   = 64 << 10
	maxBuffer      = 4 << 20 // what tuning makes of it
	maxShared      = 64 << 10
)

// tcpSide takes the guest's connections.
type tcpSide struct {
	b            *boot
	stack        *stack.Stack
	wide, narrow *tcp.Forwarder

	mu      sync.Mutex
	pending map[stack.TransportEndpointID]uint32 // first sequence number of each connection that is not yet made
	open    int                                  // pending ones included
	closed  bool
	endings map[*relay]struct{}
}

func newTCPSide(b *boot, s *stack.Stack) *tcpSide {
	t := &tcpSide{b: b, stack: s, pending: map[stack.TransportEndpointID]uint32{}, endings: map[*relay]struct{}{}}
	t.wide = tcp.NewForwarder(s, wideWindow, maxPending+1, t.connect)
	t.narrow = tcp.NewForwarder(s, narrowWindow, maxPending+1, t.connect)
	return t
}

// tcpOptions tune the protocol for a link that loses nothing.
func tcpOptions(s *stack.Stack) []func() tcpip.Error {
	set := func(o tcpip.SettableTransportProtocolOption) func() tcpip.Error {
		return func() tcpip.Error { return s.SetTransportProtocolOption(tcp.ProtocolNumber, o) }
	}
	sack, moderate, recovery := tcpip.TCPSACKEnabled(true), tcpip.TCPModerateReceiveBufferOption(true), tcpip.TCPRecovery(0)
	cubic, retries := tcpip.CongestionControlOption("cubic"), tcpip.TCPSynRetriesOption(2)
	wait := tcpip.TCPTimeWaitTimeoutOption(time.Second) // the link is too short for stray segments
	linger := tcpip.TCPLingerTimeoutOption(lingerTimeout)
	return []func() tcpip.Error{
		set(&sack), set(&moderate), set(&recovery), set(&cubic), set(&retries), set(&wait), set(&linger),
		set(bufferRange(0)), set(sendRange(0)),
	}
}

// bufferRange is what tuning may give a connection when there are open ones.
func bufferRange(open int) *tcpip.TCPReceiveBufferSizeRangeOption {
	return &tcpip.TCPReceiveBufferSizeRangeOption{Min: 4 << 10, Default: narrowWindow, Max: largest(open)}
}

func sendRange(open int) *tcpip.TCPSendBufferSizeRangeOption {
	return &tcpip.TCPSendBufferSizeRangeOption{Min: 4 << 10, Default: narrowWindow, Max: largest(open)}
}

func largest(open int) int {
	if open <= fewConnections {
		return maxBuffer
	}
	return maxShared
}

// handle takes a segment that belongs to no connection. What it does not take is
// answered by a reset.
func (t *tcpSide) handle(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	segment := header.TCP(pkt.TransportHeader().Slice())
	if len(segment) < header.TCPMinimumSize || segment.Flags()&(header.TCPFlagSyn|header.TCPFlagAck) != header.TCPFlagSyn {
		return false
	}
	t.mu.Lock()
	if _, again := t.pending[id]; again || t.closed || len(t.pending) >= maxPending {
		t.mu.Unlock() // the guest asks again
		return true
	}
	if int64(t.open) >= t.b.limit {
		t.mu.Unlock()
		t.b.counters.refused.Add(1)
		return false
	}
	t.pending[id] = segment.SequenceNumber()
	forwarder := t.wide
	if t.open >= fewConnections {
		forwarder = t.narrow
	}
	t.openedLocked(1)
	t.b.wg.Add(1) // before closed is set, so before anybody waits; done by connect
	t.mu.Unlock()
	if !forwarder.HandlePacket(id, pkt) {
		t.settled(id)
		t.released()
		t.b.wg.Done()
		return false
	}
	return true
}

// openedLocked counts connections, and tells the stack what each may use.
func (t *tcpSide) openedLocked(n int) {
	before := largest(t.open)
	t.open += n
	t.b.counters.open.Add(int64(n))
	t.b.cfg.Busy()
	if largest(t.open) != before {
		t.stack.SetTransportProtocolOption(tcp.ProtocolNumber, bufferRange(t.open))
		t.stack.SetTransportProtocolOption(tcp.ProtocolNumber, sendRange(t.open))
	}
}

func (t *tcpSide) released() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.openedLocked(-1)
}

// settled ends the pending of a connection and gives its first sequence number.
func (t *tcpSide) settled(id stack.TransportEndpointID) uint32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	sequence := t.pending[id]
	delete(t.pending, id)
	return sequence
}

// connect makes one connection: first the host's half, for only its outcome can
// tell the guest the truth.
func (t *tcpSide) connect(request *tcp.ForwarderRequest) {
	b := t.b
	defer b.wg.Done()
	defer t.released()
	id := request.ID()
	src, dst := addrPort(id.RemoteAddress, id.RemotePort), addrPort(id.LocalAddress, id.LocalPort)
	local := dst.Addr() == b.cfg.Plan.Gateway4 || dst.Addr() == b.cfg.Plan.Gateway6
	if local && dst.Port() == dnsPort {
		if queue, ep := t.accept(request, id); ep != nil {
			b.names.serveTCP(b.ctx, queue, ep)
		}
		return
	}
	if local || !b.allows(dst.Addr()) {
		t.refuse(request, id, true)
		return
	}
	host, err := b.cfg.Dial(b.ctx, "tcp", dst)
	if err != nil {
		sequence := t.refuse(request, id, resets(err))
		if why, ok := unreachableBy(err); ok {
			b.unreachable(src.Addr(), dst.Addr(), quoted(src, dst, header.TCPProtocolNumber, sequence), why)
		}
		return
	}
	queue, ep := t.accept(request, id)
	if ep == nil {
		breakOff(host)
		return
	}
	keepAlive(host)
	r := newRelay(b, queue, ep, host)
	t.mu.Lock()
	closed := t.closed
	if !closed {
		t.endings[r] = struct{}{}
	}
	t.mu.Unlock()
	if closed {
		r.abort()
	}
	r.run()
	t.mu.Lock()
	delete(t.endings, r)
	t.mu.Unlock()
}

// accept answers the guest, and is nil if it has thought better of it.
func (t *tcpSide) accept(request *tcp.ForwarderRequest, id stack.TransportEndpointID) (*waiter.Queue, tcpip.Endpoint) {
	queue := &waiter.Queue{}
	ep, err := request.CreateEndpoint(queue)
	request.Complete(err != nil)
	t.settled(id)
	if err != nil {
		return nil, nil
	}
	t.b.counters.connections.Add(1)
	return queue, ep
}

func (t *tcpSide) refuse(request *tcp.ForwarderRequest, id stack.TransportEndpointID, reset bool) uint32 {
	t.b.counters.refused.Add(1)
	request.Complete(reset)
	return t.settled(id)
}

// close ends every connection.
func (t *tcpSide) close() {
	t.mu.Lock()
	t.closed = true
	relays := t.endings
	t.endings = map[*relay]struct{}{}
	t.mu.Unlock()
	for r := range relays {
		r.abort()
	}
	t.stack.Close()
	for t.settling() { // one of them may have come to the stack only now
		for _, e := range t.stack.RegisteredEndpoints() {
			if ep, ok := e.(*tcp.Endpoint); ok && ep.EndpointState() == tcp.StateSynRecv {
				ep.Abort()
			}
		}
		time.Sleep(time.Millisecond)
	}
	t.stack.Wait()
}

// settling says whether there are connections that are not yet made.
func (t *tcpSide) settling() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.pending) > 0
}

// resets says whether a failed dial is answered by a reset: refused, or a
// trouble of ours. Otherwise the guest hears an ICMP message, or nothing.
func resets(err error) bool {
	if _, ok := unreachableBy(err); ok {
		return false
	}
	var timeout net.Error
	silent := errors.Is(err, syscall.ETIMEDOUT) || errors.As(err, &timeout) && timeout.Timeout()
	return !silent
}

// unreachableBy is what an ICMP message says of a failed send.
func unreachableBy(err error) (reason, bool) {
	for errno, why := range map[error]reason{
		syscall.EHOSTUNREACH: noHost, syscall.EHOSTDOWN: noHost, syscall.ENETUNREACH: noRoute, syscall.ENETDOWN: noRoute,
		syscall.EADDRNOTAVAIL: noRoute, syscall.EAFNOSUPPORT: noRoute, syscall.EINVAL: noRoute,
		syscall.EACCES: prohibited, syscall.EPERM: prohibited,
	} {
		if errors.Is(err, errno) {
			return why, true
		}
	}
	return 0, false
}

func addrPort(a tcpip.Address, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(addr(a.AsSlice()), port)
}

// lingerTimeout is how long a connection that both sides have ended may wait for
// the guest to take the rest.
const lingerTimeout = 30 * time.Second

// chunk is how much a connection moves at once.
const chunk = 64 << 10

// chunks are buffers, borrowed while data flows: a connection at rest has none.
type chunks struct{ pool sync.Pool }

func newChunks() *chunks {
	return &chunks{sync.Pool{New: func() any { return new([chunk]byte) }}}
}

func (c *chunks) get() *[chunk]byte  { return c.pool.Get().(*[chunk]byte) }
func (c *chunks) put(b *[chunk]byte) { c.pool.Put(b) }

// relay moves bytes between one connection's two halves.
type relay struct {
	b     *boot
	ep    tcpip.Endpoint
	host  Socket
	queue *waiter.Queue

	once sync.Once // abort
}

func newRelay(b *boot, queue *waiter.Queue, ep tcpip.Endpoint, host Socket) *relay {
	return &relay{b: b, ep: ep, host: host, queue: queue}
}

// run returns when both halves are closed.
func (r *relay) run() {
	broken := waiter.NewFunctionEntry(waiter.EventErr|waiter.EventHUp, r.broken)
	r.queue.EventRegister(&broken)
	defer r.queue.EventUnregister(&broken)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if !r.download() {
			r.abort()
		}
	}()
	if !r.upload() {
		r.abort()
	}
	<-done
	r.linger()
	r.ep.Close()
	_ = r.host.Close()
}

// abort breaks both halves off: the guest and the host's peer see a reset.
func (r *relay) abort() {
	r.once.Do(func() {
		r.ep.Abort()
		breakOff(r.host)
	})
}

// broken ends the waits for the host's half when the guest has reset its own,
// which whoever waits for room in the host's socket does not see. The stack may
// hold the endpoint's lock while it calls: nothing here may wait.
func (r *relay) broken(waiter.EventMask) {
	if tcp.EndpointState(r.ep.State()) == tcp.StateError {
		_ = r.host.SetDeadline(time.Unix(1, 0))
	}
}

// breakOff closes a socket by a reset.
func breakOff(host Socket) {
	if c, ok := host.(*net.TCPConn); ok {
		_ = c.SetLinger(0)
	}
	_ = host.Close()
}

// wait is a channel that has a value after events of the guest's half.
func (r *relay) wait(mask waiter.EventMask) (<-chan struct{}, func()) {
	entry, events := waiter.NewChannelEntry(mask | waiter.EventHUp | waiter.EventErr)
	r.queue.EventRegister(&entry)
	return events, func() { r.queue.EventUnregister(&entry) }
}

// upload moves what the guest sends, to its end. False: the connection broke.
func (r *relay) upload() bool {
	host, err := r.host.SyscallConn()
	if err != nil {
		return false
	}
	events, stop := r.wait(waiter.ReadableEvents)
	defer stop()
	moderate, _ := r.ep.(interface{ ModerateRecvBuf(copied int) })
	for {
		var moved int
		var from tcpip.Error
		var to error
		werr := host.Write(func(fd uintptr) bool {
			moved, from, to = r.uploadOnce(fd)
			return !errors.Is(to, syscall.EAGAIN)
		})
		if moved > 0 && moderate != nil {
			moderate.ModerateRecvBuf(moved)
		}
		if werr != nil || to != nil {
			return false
		}
		switch from.(type) {
		case nil:
		case *tcpip.ErrWouldBlock:
			<-events
		case *tcpip.ErrClosedForReceive:
			if tcp.EndpointState(r.ep.State()) == tcp.StateError { // a reset whose error somebody else has had
				return false
			}
			c, ok := r.host.(interface{ CloseWrite() error })
			return ok && halfClosed(c.CloseWrite())
		default:
			return false
		}
	}
}

// halfClosed says whether a half-close is no failure: a peer that is gone
// already shows on the other way.
func halfClosed(err error) bool { return err == nil || errors.Is(err, syscall.ENOTCONN) }

// uploadOnce writes what the guest has sent, as far as the host takes it.
func (r *relay) uploadOnce(fd uintptr) (moved int, from tcpip.Error, to error) {
	buf := r.b.chunks.get()
	defer r.b.chunks.put(buf)
	w := tcpip.SliceWriter(buf[:])
	got, from := r.ep.Read(&w, tcpip.ReadOptions{Peek: true})
	if from != nil {
		return 0, from, nil
	}
	if moved, to = writeNow(fd, buf[:got.Count]); to != nil {
		return 0, nil, to
	}
	w = buf[:moved]
	_, from = r.ep.Read(&w, tcpip.ReadOptions{}) // the same again, and for good
	return moved, from, nil
}

// download moves what the host's peer sends, to its end. False: the connection broke.
func (r *relay) download() bool {
	host, err := r.host.SyscallConn()
	if err != nil {
		return false
	}
	events, stop := r.wait(waiter.WritableEvents)
	defer stop()
	for {
		var buf *[chunk]byte
		var n int
		var from error
		rerr := host.Read(func(fd uintptr) bool {
			buf = r.b.chunks.get()
			if n, from = readNow(fd, buf[:]); !errors.Is(from, syscall.EAGAIN) {
				return true
			}
			r.b.chunks.put(buf)
			buf = nil
			return false
		})
		if rerr != nil || from != nil {
			if buf != nil {
				r.b.chunks.put(buf)
			}
			return false
		}
		if n == 0 {
			r.b.chunks.put(buf)
			err := r.ep.Shutdown(tcpip.ShutdownWrite)
			_, gone := err.(*tcpip.ErrNotConnected)
			return err == nil || gone
		}
		ok := r.toGuest(buf[:n], events)
		r.b.chunks.put(buf)
		if !ok {
			return false
		}
	}
}

// toGuest writes all of p, waiting for room.
func (r *relay) toGuest(p []byte, events <-chan struct{}) bool {
	data := slicePayload(p)
	for data.Len() > 0 {
		_, err := r.ep.Write(&data, tcpip.WriteOptions{})
		switch err.(type) {
		case nil:
		case *tcpip.ErrWouldBlock:
			<-events
		default:
			return false
		}
	}
	return true
}

// slicePayload is bytes that are still to be written.
type slicePayload []byte

func (s *slicePayload) Len() int { return len(*s) }

func (s *slicePayload) Read(p []byte) (int, error) {
	n := copy(p, *s)
	*s = (*s)[n:]
	return n, nil
}

// linger waits until the guest has taken what was sent to it.
func (r *relay) linger() {
	events, stop := r.wait(waiter.ReadableEvents | waiter.WritableEvents)
	defer stop()
	limit := time.NewTimer(lingerTimeout)
	defer limit.Stop()
	again := time.NewTicker(time.Second) // not every change is an event
	defer again.Stop()
	for {
		switch tcp.EndpointState(r.ep.State()) {
		case tcp.StateClose, tcp.StateError, tcp.StateTimeWait, tcp.StateInitial:
			return
		default:
		}
		select {
		case <-events:
		case <-again.C:
		case <-r.b.ctx.Done():
			r.abort()
			return
		case <-limit.C:
			r.abort()
			return
		}
	}
}
