package user

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/ethernet"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"gvisor.dev/gvisor/pkg/buffer"

	"banger.dev/banger/internal/network"
)

// patience bounds what takes a moment.
const patience = 2 * time.Minute

// world is a network, its guest, and a pretended outside: where the guest dials
// 192.0.2.1 or 2001:db8::1 it reaches the loopback of the test.
type world struct {
	t      *testing.T
	n      *Network
	guest  *stack.Stack
	card   *os.File // the guest's end of the stream
	served chan error
	cancel context.CancelFunc
}

func outside4() netip.Addr { return netip.MustParseAddr("192.0.2.1") }
func outside6() netip.Addr { return netip.MustParseAddr("2001:db8::1") }

// loopback is where an address of the pretended outside is.
func loopback(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.MustParseAddr("127.0.0.1")
	}
	return netip.IPv6Loopback()
}

// dialLoopback dials where an address of the pretended outside is.
func dialLoopback(ctx context.Context, proto string, to netip.AddrPort) (Socket, error) {
	return dialHost(ctx, proto, netip.AddrPortFrom(loopback(to.Addr()), to.Port()))
}

func guestMAC() net.HardwareAddr { return net.HardwareAddr{0x52, 0x54, 0, 0, 0, 1} }

func pair(t *testing.T) (host, card *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	host, card = os.NewFile(uintptr(fds[0]), "host"), os.NewFile(uintptr(fds[1]), "card")
	t.Cleanup(func() {
		_ = host.Close()
		_ = card.Close()
	})
	return host, card
}

func newWorld(t *testing.T, change func(*Config)) *world {
	t.Helper()
	w := &world{t: t, served: make(chan error, 1)}
	dir := t.TempDir()
	policy := newPolicy(rules{allowPrivate: true, own: []netip.Prefix{network.User().Guest4.Masked(), network.User().Guest6.Masked()}})
	cfg := Config{
		Plan: network.User(), MAC: guestMAC(), Log: slog.New(slog.DiscardHandler),
		Allows: policy.allows,
		Dial:   dialLoopback,
		Resolv: filepath.Join(dir, "resolv.conf"), Hosts: filepath.Join(dir, "hosts"),
	}
	if change != nil {
		change(&cfg)
	}
	w.n = New(cfg)
	w.boot()
	t.Cleanup(w.end)
	return w
}

// boot attaches a guest that has just booted.
func (w *world) boot() {
	w.t.Helper()
	host, card := pair(w.t)
	ctx, cancel := context.WithCancel(context.Background())
	w.card, w.cancel = card, cancel
	go func() { w.served <- w.n.Serve(ctx, host) }()
	w.guest = newGuest(w.t, card)
}

// end ends the boot; nothing of it may be left.
func (w *world) end() {
	w.t.Helper()
	w.cancel()
	select {
	case err := <-w.served:
		if err != nil {
			w.t.Errorf("the network ended with %v", err)
		}
	case <-time.After(patience):
		w.t.Fatal("the network does not end")
	}
	w.served <- nil
	_ = w.card.Close()
	w.guest.Destroy()
	if s := w.n.Stats(); s.Open != 0 || s.Flows != 0 {
		w.t.Errorf("%d connections and %d flows are left", s.Open, s.Flows)
	}
}

// newGuest is a guest's own stack behind its card.
func newGuest(t *testing.T, card *os.File) *stack.Stack {
	t.Helper()
	plan := network.User()
	l, err := newLink(card, uint32(plan.MTU), tcpip.LinkAddress(guestMAC()), "", &counters{}, func() {})
	if err != nil {
		t.Fatal(err)
	}
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{arp.NewProtocol, ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6},
	})
	check := func(err tcpip.Error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(s.CreateNIC(nic, ethernet.New(frames{l})))
	for protocol, prefix := range map[tcpip.NetworkProtocolNumber]netip.Prefix{ipv4.ProtocolNumber: plan.Guest4, ipv6.ProtocolNumber: plan.Guest6} {
		check(s.AddProtocolAddress(nic, tcpip.ProtocolAddress{
			Protocol:          protocol,
			AddressWithPrefix: tcpip.AddressWithPrefix{Address: tcpipAddr(prefix.Addr()), PrefixLen: prefix.Bits()},
		}, stack.AddressProperties{}))
	}
	s.SetRouteTable([]tcpip.Route{
		{Destination: header.IPv4EmptySubnet, Gateway: tcpipAddr(plan.Gateway4), NIC: nic},
		{Destination: header.IPv6EmptySubnet, Gateway: tcpipAddr(plan.Gateway6), NIC: nic},
	})
	go func() { _ = l.write() }()
	go func() {
		_ = l.read(func(frame *buffer.View) {
			l.mu.Lock()
			d := l.dispatcher
			l.mu.Unlock()
			pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithView(frame)})
			if d != nil {
				d.DeliverNetworkPacket(0, pkt)
			}
			pkt.DecRef()
		})
		l.shut()
	}()
	return s
}

// frames is a link below package ethernet: it adds no header of its own.
type frames struct{ *link }

func (frames) MaxHeaderLength() uint16 { return 0 }

func (f frames) WritePackets(packets stack.PacketBufferList) (int, tcpip.Error) {
	for n, pkt := range packets.AsSlice() {
		if err := f.send(pkt); err != nil {
			return n, err
		}
	}
	return packets.Len(), nil
}

func protocolOf(a netip.Addr) tcpip.NetworkProtocolNumber {
	if a.Is4() {
		return ipv4.ProtocolNumber
	}
	return ipv6.ProtocolNumber
}

func full(to netip.AddrPort) tcpip.FullAddress {
	return tcpip.FullAddress{NIC: nic, Addr: tcpipAddr(to.Addr()), Port: to.Port()}
}

// dial dials from the guest.
func (w *world) dial(to netip.AddrPort) (*gonet.TCPConn, error) {
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	return gonet.DialContextTCP(ctx, w.guest, full(to), protocolOf(to.Addr()))
}

func (w *world) mustDial(to netip.AddrPort) *gonet.TCPConn {
	w.t.Helper()
	conn, err := w.dial(to)
	if err != nil {
		w.t.Fatalf("dial %s: %v", to, err)
	}
	w.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	return conn
}

// serve listens on the loopback and gives the outside address that leads there.
func serve(t *testing.T, outside netip.Addr, each func(*net.TCPConn)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", netip.AddrPortFrom(loopback(outside), 0).String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				each(conn.(*net.TCPConn))
			}()
		}
	}()
	return netip.AddrPortFrom(outside, l.Addr().(*net.TCPAddr).AddrPort().Port())
}

func echoServer(c *net.TCPConn) {
	if _, err := io.Copy(c, c); err != nil && !errors.Is(err, net.ErrClosed) {
		return
	}
	_ = c.CloseWrite()
}
