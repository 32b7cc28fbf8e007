package user

import (
	"encoding/binary"
	"net/netip"
)

// rules decide where a guest may send to.
type rules struct {
	allowPrivate bool
	own          []netip.Prefix // the guest's subnets: beyond the gateway there is nothing
	host         []netip.Addr   // the host's own addresses; looked at where private ones are closed
}

// always are closed whatever the settings say. The metadata services of clouds
// hand out the host's credentials; 0.0.0.0/8 and :: are loopback to Linux.
func always() []netip.Prefix {
	return prefixes(
		"0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4",
		"100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32",
		"::/96", // unspecified, loopback and IPv4-compatible
		"::ffff:0:0/96", "::ffff:0:0:0/96", "fe80::/10", "ff00::/8",
		"64:ff9b:1::/48", // a translator's own: where the IPv4 address is in it nobody can tell
		"fd00:ec2::/32", "fd20:ce::254/128",
	)
}

// private are closed where private addresses are.
func private() []netip.Prefix {
	return prefixes(
		"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "192.0.0.0/24", "198.18.0.0/15",
		"fc00::/7", "fec0::/10",
	)
}

func prefixes(texts ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		out[i] = netip.MustParsePrefix(text)
	}
	return out
}

// policy is rules with their tables made.
type policy struct {
	rules
	closed []netip.Prefix
}

func newPolicy(r rules) policy {
	p := policy{rules: r, closed: append(always(), r.own...)}
	if !r.allowPrivate {
		p.closed = append(p.closed, private()...)
	}
	return p
}

// allows says whether the guest may send to an address.
func (p policy) allows(a netip.Addr) bool {
	if !a.IsValid() || a.Zone() != "" || a.Is4In6() {
		return false
	}
	for _, prefix := range p.closed {
		if prefix.Contains(a) {
			return false
		}
	}
	if !p.allowPrivate {
		for _, own := range p.host {
			if own.Unmap().WithZone("") == a {
				return false
			}
		}
	}
	for _, inner := range embedded(a) {
		if !p.allows(inner) {
			return false
		}
	}
	return true
}

// embedded are the IPv4 addresses that an IPv6 address leads to: of NAT64, 6to4,
// Teredo and ISATAP.
func embedded(a netip.Addr) []netip.Addr {
	if !a.Is6() {
		return nil
	}
	b := a.As16()
	at := func(i int) netip.Addr { return netip.AddrFrom4([4]byte(b[i : i+4])) }
	var found []netip.Addr
	switch head := binary.BigEndian.Uint32(b[:4]); {
	case head == 0x0064ff9b && binary.BigEndian.Uint64(b[4:12]) == 0:
		found = append(found, at(12))
	case head>>16 == 0x2002:
		found = append(found, at(2))
	case head == 0x20010000:
		client := binary.BigEndian.Uint32(b[12:]) ^ 0xffffffff
		found = append(found, at(4), netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, client))))
	}
	if id := binary.BigEndian.Uint32(b[8:12]); id == 0x00005efe || id == 0x02005efe {
		found = append(found, at(12))
	}
	return found
}
