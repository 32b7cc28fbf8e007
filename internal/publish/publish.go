// Package publish is the host's side of published ports: it listens on the host
// and carries what comes to a server in the guest. How the guest is reached is
// the caller's; which ports there are is decided elsewhere.
package publish

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/agent/relay"
	"banger.dev/banger/internal/agent/wire"
)

// Bounds of what the host's clients may take.
const (
	maxConns    = 1024             // TCP connections of one Set; further ones are reset
	maxOld      = 64               // of them by way of agents that count nothing: each may cost wire.StreamWindow
	maxFlows    = 1024             // UDP flows of one Set; datagrams of further ones are dropped
	flowQueue   = 64               // datagrams of one flow on their way to the guest; further ones are dropped
	maxQueued   = 4 << 20          // bytes of them in all flows of one Set
	dialTimeout = 2 * time.Minute  // to be connected in the guest, its boot included
	flowIdle    = 90 * time.Second // a UDP flow without a datagram ends
	acceptPause = 100 * time.Millisecond
)

// Dial connects to a port of the guest; see guest.DialPort. It is called once
// Serve was.
type Dial func(ctx context.Context, req wire.DialRequest) (relay.Stream, error)

// Set is the ports that are published for one guest. All methods may be called
// from any goroutine.
type Set struct {
	dial  Dial
	log   *slog.Logger
	idle  time.Duration // of a UDP flow
	relay relay.Relay
	ctx   context.Context // ends with the Set
	stop  context.CancelFunc
	wg    sync.WaitGroup
	conns chan struct{} // a token for each connection
	old   chan struct{} // and for each that is not counted
	flows chan struct{} // a token for each flow

	queued atomic.Int64 // bytes of datagrams, see maxQueued

	mu      sync.Mutex
	serving bool
	closed  bool
	open    map[banger.Port]*published
}

// published is one port that is listened on.
type published struct {
	port   banger.Port
	tcp    *net.TCPListener // one of the two
	udp    *net.UDPConn
	ctx    context.Context // ends with the port: its connections are cut
	cancel context.CancelFunc
}

// New makes a Set without ports. Close must be called.
func New(dial Dial, log *slog.Logger) *Set {
	ctx, stop := context.WithCancel(context.Background())
	return &Set{
		dial: dial, log: log, idle: flowIdle, ctx: ctx, stop: stop,
		conns: make(chan struct{}, maxConns), old: make(chan struct{}, maxOld), flows: make(chan struct{}, maxFlows),
		open: map[banger.Port]*published{},
	}
}

// Sync makes want the ports that are listened on. All of them are, or the error
// says which could not be and nothing has changed. A port that goes takes its
// connections with it, one that stays keeps them. It does not wait for the
// guest's end of what it cuts, which a paused guest does not take.
func (s *Set) Sync(want []banger.Port) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	var fresh []*published
	for _, p := range want {
		if s.open[p] != nil {
			continue
		}
		l, err := s.listen(p)
		if err != nil {
			for _, l := range fresh {
				l.close()
			}
			return err
		}
		fresh = append(fresh, l)
	}
	for p, l := range s.open {
		if !slices.Contains(want, p) {
			l.close()
			delete(s.open, p)
		}
	}
	for _, l := range fresh {
		s.open[l.port] = l
		if s.serving {
			s.start(l)
		}
	}
	return nil
}

// Serve begins to carry; until then clients wait.
func (s *Set) Serve() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.serving || s.closed {
		return
	}
	s.serving = true
	for _, l := range s.open {
		s.start(l)
	}
}

// Close ends every port and connection and returns when they are gone.
func (s *Set) Close() {
	s.mu.Lock()
	s.closed = true
	s.stop()
	for p, l := range s.open {
		l.close()
		delete(s.open, p)
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// listen opens the socket of a port.
func (s *Set) listen(p banger.Port) (*published, error) {
	l := &published{port: p}
	var err error
	if p.Protocol == banger.ProtocolUDP {
		var addr *net.UDPAddr
		if addr, err = net.ResolveUDPAddr(network(p), p.Host()); err == nil {
			l.udp, err = net.ListenUDP(network(p), addr)
		}
	} else {
		var addr *net.TCPAddr
		if addr, err = net.ResolveTCPAddr(network(p), p.Host()); err == nil {
			l.tcp, err = net.ListenTCP(network(p), addr)
		}
	}
	if err != nil {
		return nil, Refusal(p, err)
	}
	l.ctx, l.cancel = context.WithCancel(s.ctx)
	return l, nil
}

// network keeps [::] from taking the port of 0.0.0.0 too.
func network(p banger.Port) string {
	if p.Host()[0] == '[' {
		return string(p.Protocol) + "6"
	}
	return string(p.Protocol) + "4"
}

func (l *published) close() {
	l.cancel()
	if l.tcp != nil {
		_ = l.tcp.Close()
	} else {
		_ = l.udp.Close()
	}
}

func (s *Set) start(l *published) {
	serve := s.accept
	if l.udp != nil {
		serve = s.receive
	}
	s.wg.Go(func() { serve(l) })
}

// accept takes the clients of a TCP port until it is closed.
func (s *Set) accept(l *published) {
	for {
		client, err := l.tcp.AcceptTCP()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			// Out of descriptors, most likely: the clients at hand will free some.
			s.log.Warn("published port: accept", "port", l.port.String(), "err", err)
			select {
			case <-l.ctx.Done():
				return
			case <-time.After(acceptPause):
			}
			continue
		}
		select {
		case s.conns <- struct{}{}:
		default:
			reset(client)
			continue
		}
		s.wg.Go(func() {
			defer func() { <-s.conns }()
			s.carry(l, client)
		})
	}
}

// carry connects a client to the guest. One for whom nothing listens there is
// reset, as it would be without a host between.
func (s *Set) carry(l *published, client *net.TCPConn) {
	cut := context.AfterFunc(l.ctx, func() { reset(client) })
	defer cut()
	stream, err := s.connect(l)
	if err != nil {
		reset(client)
		return
	}
	stop := context.AfterFunc(l.ctx, func() { relay.Close(stream) })
	defer stop()
	if stream.Window == 0 {
		select {
		case s.old <- struct{}{}:
			defer func() { <-s.old }()
		default:
			reset(client)
			relay.Close(stream)
			return
		}
	}
	s.relay.TCP(client, stream)
}

func (s *Set) connect(l *published) (relay.Stream, error) {
	ctx, cancel := context.WithTimeout(l.ctx, dialTimeout)
	defer cancel()
	stream, err := s.dial(ctx, wire.DialRequest{Network: string(l.port.Protocol), Port: uint16(l.port.GuestPort), Window: relay.Window})
	if err != nil && l.ctx.Err() == nil {
		s.log.Info("published port: the guest cannot be reached", "port", l.port.String(), "err", err)
	}
	return stream, err
}

func reset(client *net.TCPConn) {
	_ = client.SetLinger(0)
	_ = client.Close()
}

// Refusal is why p could not be listened on.
func Refusal(p banger.Port, cause error) error {
	where := p.Host() + "/" + string(p.Protocol)
	switch {
	case errors.Is(cause, syscall.EADDRINUSE):
		return banger.Errorf(banger.KindConflict, "%s of this host is in use by another process", where)
	case errors.Is(cause, syscall.EACCES):
		return banger.Errorf(banger.KindInvalid, "%s of this host: ports below 1024 need privileges that you do not have", where).
			WithNext("a port from 1024 on, or sudo sysctl net.ipv4.ip_unprivileged_port_start=%d", p.HostPort)
	case errors.Is(cause, syscall.EADDRNOTAVAIL), errors.Is(cause, syscall.EAFNOSUPPORT):
		return banger.Errorf(banger.KindInvalid, "%s: this host has no address %s", where, p.HostIP).WithNext("ip -brief address")
	}
	return banger.Errorf(banger.KindInternal, "%s of this host cannot be listened on: %w", where, cause)
}
