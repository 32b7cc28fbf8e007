package user

import (
	"sync/atomic"

	"banger.dev/banger/internal/network"
)

// counters are network.Stats while they are counted.
type counters struct {
	fromBytes, fromPackets, toBytes, toPackets, dropped atomic.Uint64
	connections, refused, names                         atomic.Uint64
	open, flows                                         atomic.Int64
}

func (c *counters) stats() network.Stats {
	return network.Stats{
		FromGuestBytes: c.fromBytes.Load(), FromGuestPackets: c.fromPackets.Load(),
		ToGuestBytes: c.toBytes.Load(), ToGuestPackets: c.toPackets.Load(), Dropped: c.dropped.Load(),
		Open: uint64(max(0, c.open.Load())), Connections: c.connections.Load(), Refused: c.refused.Load(),
		Flows: uint64(max(0, c.flows.Load())), Names: c.names.Load(),
	}
}
