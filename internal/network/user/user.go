// Package user is a VM's network without privileges: a TCP/IP stack in the
// monitor, to which the guest's network card is attached by a stream of frames.
// What the guest sends to the outside, the stack sends by sockets of the host:
// TCP, UDP and echo requests, where the policy allows. At the gateway's address
// names are resolved, as the host resolves them. Everything that comes from the
// guest is hostile; what it can make us hold is bounded.
package user

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"banger.dev/banger/internal/network"
)

// Bounds of what one guest can make its monitor hold.
const (
	maxConnections = 4096 // TCP, open or closing
	maxPending     = 1024 // TCP, not yet open
	maxFlows       = 512  // UDP and echo
	maxQuestions   = 64   // to DNS, under way
	spareFiles     = 64   // descriptors that connections leave to the rest of the monitor
)

// Config is what a Network is made of.
type Config struct {
	Plan     network.Plan
	Settings network.Settings
	MAC      net.HardwareAddr // of the guest
	// Busy, where not nil, is called now and then while much is moved, and at the
	// beginning and the end of each connection: it is work of which memory is left.
	Busy func()
	Log  *slog.Logger

	// The rest is for tests; nil stands for the host's own.
	Allows func(netip.Addr) bool
	Dial   func(ctx context.Context, proto string, to netip.AddrPort) (Socket, error)
	// Resolv and Hosts are paths of files like /etc/resolv.conf and /etc/hosts.
	Resolv, Hosts string
}

// Socket is a connected socket of the host.
type Socket interface {
	net.Conn
	syscall.Conn
}

// Network is one VM's network over all its boots. Its methods may be called
// from any goroutine.
type Network struct {
	cfg      Config
	policy   policy
	names    *resolver
	chunks   *chunks
	counters counters
	limit    int64 // of TCP connections
}

// New makes a network; nothing runs until Serve.
func New(cfg Config) *Network {
	n := &Network{cfg: cfg, chunks: newChunks(), limit: connectionLimit()}
	n.policy = newPolicy(rules{
		allowPrivate: cfg.Settings.AllowPrivate,
		own:          []netip.Prefix{cfg.Plan.Guest4.Masked(), cfg.Plan.Guest6.Masked()},
	})
	if n.cfg.Busy == nil {
		n.cfg.Busy = func() {}
	}
	if n.cfg.Dial == nil {
		n.cfg.Dial = dialHost
	}
	n.names = newResolver(cfg, n.allows, func() { n.counters.names.Add(1) })
	return n
}

// connectionLimit is maxConnections, or less where descriptors are scarce.
func connectionLimit() int64 {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return maxConnections
	}
	return max(1, min(maxConnections, int64(min(limit.Cur, 1<<30))-maxFlows-maxQuestions-spareFiles))
}

// Serve runs the stack of one boot over its stream until the stream ends or ctx
// does; then every connection of that boot is closed. It leaves the stream open
// and returns when nothing uses it any more.
func (n *Network) Serve(ctx context.Context, stream Stream) error {
	b, err := n.newBoot(ctx, stream)
	if err != nil {
		return err
	}
	return b.run()
}

// Stream carries the guest's frames, each after its length in 4 bytes, big endian.
type Stream interface {
	io.Writer
	syscall.Conn
	SetDeadline(t time.Time) error
}

// Stats are what went through so far.
func (n *Network) Stats() network.Stats { return n.counters.stats() }

// allows is asked right before an address is dialled.
func (n *Network) allows(a netip.Addr) bool {
	if n.cfg.Allows != nil {
		return n.cfg.Allows(a)
	}
	if n.policy.allowPrivate {
		return n.policy.allows(a)
	}
	host, err := hostAddresses()
	if err != nil { // without knowing, none is open
		return false
	}
	p := n.policy
	p.host = host
	return p.allows(a)
}

func hostAddresses() ([]netip.Addr, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for _, a := range addrs {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil {
			out = append(out, prefix.Addr())
		}
	}
	return out, nil
}

// keepAliveTime finds, some day, connections whose peer is gone.
const keepAliveTime = 5 * time.Minute

func keepAlive(host Socket) {
	if c, ok := host.(*net.TCPConn); ok {
		_ = c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: keepAliveTime, Interval: keepAliveTime})
	}
}

// dialTimeout bounds one attempt; the guest makes the next itself.
const dialTimeout = 75 * time.Second

// dialHost dials by a socket of the host; to is a number, nothing is looked up.
func dialHost(ctx context.Context, proto string, to netip.AddrPort) (Socket, error) {
	d := net.Dialer{Timeout: dialTimeout, KeepAlive: -1} // see keepAlive: the guest waits for its answer first
	if proto == "udp" {
		d.Control = noBroadcast
	}
	conn, err := d.DialContext(ctx, proto, to.String())
	if err != nil {
		return nil, err
	}
	return conn.(Socket), nil // TCP and UDP are
}

// noBroadcast takes from a socket what package net gives each: to send to the
// broadcast addresses of the host's networks, which only the kernel knows.
func noBroadcast(_, _ string, raw syscall.RawConn) error {
	var err error
	if cerr := raw.Control(func(fd uintptr) {
		err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_BROADCAST, 0)
	}); cerr != nil {
		return cerr
	}
	return err
}

// boot is the network of one boot of the guest.
type boot struct {
	*Network
	ctx    context.Context
	cancel context.CancelFunc
	link   *link
	tcp    *tcpSide
	flows  *flows
	wg     sync.WaitGroup // every goroutine of this boot
	// fragmented counts packets that did not fit, and so gives each its number.
	fragmented atomic.Uint32
}
