package user

import (
	"context"
	"fmt"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

// nic is the number of the stack's one network card.
const nic = 1

// gatewayMAC is the gateway's hardware address: locally administered.
const gatewayMAC = tcpip.LinkAddress("\x02bangr")

func checksumOf(p []byte, initial uint16) uint16 { return checksum.Checksum(p, initial) }

// newBoot makes the stack of one boot; run starts it.
func (n *Network) newBoot(ctx context.Context, stream Stream) (*boot, error) {
	link, err := newLink(stream, uint32(n.cfg.Plan.MTU), gatewayMAC, tcpip.LinkAddress(n.cfg.MAC), &n.counters, n.cfg.Busy)
	if err != nil {
		return nil, err
	}
	b := &boot{Network: n, link: link}
	b.ctx, b.cancel = context.WithCancel(ctx)
	b.flows = newFlows(b)
	s := stack.New(stack.Options{
		// Without neighbour discovery or MLD: receive answers what the guest needs of it.
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol},
		HandleLocal:        false,
	})
	b.tcp = newTCPSide(b, s)
	if err := b.configure(s); err != nil {
		b.cancel()
		s.Destroy()
		return nil, err
	}
	return b, nil
}

func (b *boot) configure(s *stack.Stack) error {
	plan := b.cfg.Plan
	steps := []func() tcpip.Error{
		func() tcpip.Error { return s.CreateNIC(nic, b.link) },
		// Every address the guest dials is ours to answer for.
		func() tcpip.Error { return s.SetPromiscuousMode(nic, true) },
		func() tcpip.Error { return s.SetSpoofing(nic, true) },
		func() tcpip.Error {
			return s.AddProtocolAddress(nic, tcpip.ProtocolAddress{
				Protocol:          ipv4.ProtocolNumber,
				AddressWithPrefix: tcpip.AddressWithPrefix{Address: tcpipAddr(plan.Gateway4), PrefixLen: plan.Guest4.Bits()},
			}, stack.AddressProperties{})
		},
		func() tcpip.Error {
			return s.AddProtocolAddress(nic, tcpip.ProtocolAddress{
				Protocol:          ipv6.ProtocolNumber,
				AddressWithPrefix: tcpip.AddressWithPrefix{Address: tcpipAddr(plan.Gateway6), PrefixLen: plan.Guest6.Bits()},
			}, stack.AddressProperties{})
		},
	}
	steps = append(steps, tcpOptions(s)...)
	for _, step := range steps {
		if err := step(); err != nil {
			return fmt.Errorf("network stack: %s", err)
		}
	}
	s.SetRouteTable([]tcpip.Route{
		{Destination: header.IPv4EmptySubnet, NIC: nic},
		{Destination: header.IPv6EmptySubnet, NIC: nic},
	})
	s.SetTransportProtocolHandler(tcp.ProtocolNumber, b.tcp.handle)
	s.SetTransportProtocolHandler(udp.ProtocolNumber, b.flows.handleUDP)
	return nil
}

// run moves frames until the stream or ctx ends, and then ends all else.
func (b *boot) run() error {
	stop := context.AfterFunc(b.ctx, func() { _ = b.link.stream.SetDeadline(time.Now()) })
	var failed error // of what ended it; all that comes afterwards is the end's doing
	var first sync.Once
	over := func(err error) {
		first.Do(func() {
			if b.ctx.Err() == nil {
				failed = err
			}
			b.cancel()
		})
	}
	b.wg.Go(func() { over(b.link.write()) })
	over(b.link.read(b.receive))
	stop()
	b.flows.close()
	b.tcp.close()
	b.link.shut()
	b.wg.Wait()
	return failed
}
