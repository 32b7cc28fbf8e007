// Package network is what both ends of a VM's user network agree on: the
// addresses that lifecycle writes on the config disk and that the stack in the
// monitor answers at. There is one such network for each VM, so all of them
// have the same addresses.
package network

import "net/netip"

// Plan are the addresses of one VM's network.
type Plan struct {
	Guest4, Guest6     netip.Prefix // of the guest, with its subnet
	Gateway4, Gateway6 netip.Addr   // the stack's; names are resolved there too
	MTU                int          // bytes of an IP packet
}

// mtu is as large as QEMU and IPv4 carry: with segments of 64 KiB a guest moves
// many times what it does with 1500 bytes, for each costs the same.
const mtu = 65520

// User is the plan of user networking.
func User() Plan {
	return Plan{
		Guest4: netip.MustParsePrefix("10.0.2.15/24"), Gateway4: netip.MustParseAddr("10.0.2.2"),
		Guest6: netip.MustParsePrefix("fd62:6e67:7200::15/64"), Gateway6: netip.MustParseAddr("fd62:6e67:7200::2"),
		MTU: mtu,
	}
}

// Settings are what the user decides of a VM's network.
type Settings struct {
	// AllowPrivate lets the guest reach private ranges and the host's own addresses.
	AllowPrivate bool `json:"allow_private"`
	// DNS are the servers that names are asked of, as address or address:port;
	// empty: the host's.
	DNS []string `json:"dns,omitempty"`
}

// Stats count what went through a VM's network since its monitor began.
type Stats struct {
	FromGuestBytes   uint64 `json:"from_guest_bytes"` // of frames
	FromGuestPackets uint64 `json:"from_guest_packets"`
	ToGuestBytes     uint64 `json:"to_guest_bytes"`
	ToGuestPackets   uint64 `json:"to_guest_packets"`
	Dropped          uint64 `json:"dropped"` // frames, either way: malformed, or too many
	Open             uint64 `json:"open"`    // TCP connections now
	Connections      uint64 `json:"connections"`
	Refused          uint64 `json:"refused"` // TCP connections that were not made: closed by policy, too many, or failed
	Flows            uint64 `json:"flows"`   // UDP and echo flows now
	Names            uint64 `json:"names"`   // questions to DNS
}
