package user

import (
	"net/netip"
	"testing"

	"banger.dev/banger/internal/network"
)

func ownSubnets() []netip.Prefix {
	return []netip.Prefix{network.User().Guest4.Masked(), network.User().Guest6.Masked()}
}

func TestPolicy(t *testing.T) {
	host := []netip.Addr{netip.MustParseAddr("203.0.113.7"), netip.MustParseAddr("2001:db8:1::7")}
	open := newPolicy(rules{allowPrivate: true, own: ownSubnets(), host: host})
	strict := newPolicy(rules{own: ownSubnets(), host: host})
	for _, test := range []struct {
		addresses     []string
		open, private bool // by default, and where private addresses are closed
	}{
		{[]string{"8.8.8.8", "192.0.2.1", "2001:db8::1", "2606:4700::1", "64:ff9b::808:808", "2002:808:808::1"}, true, true},
		{[]string{
			"10.0.0.1", "10.0.3.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "192.0.0.1", "198.18.0.1", "198.19.255.255",
			"fc00::1", "fd00::1", "fec0::1", "64:ff9b::a00:1", "2002:c0a8:101::1",
			"203.0.113.7", "2001:db8:1::7",
		}, true, false},
		{[]string{
			"127.0.0.1", "127.255.255.255", "::1", // loopback
			"0.0.0.0", "0.1.2.3", "::", // what Linux takes for it
			"169.254.0.1", "169.254.169.254", "169.254.170.2", "fe80::1", "febf::1", // link-local
			"fd00:ec2::254", "100.100.100.200", "168.63.129.16", "192.0.0.192", "fd20:ce::254", // metadata
			"224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "ff02::1", "ff0e::1", // to many
			"::ffff:127.0.0.1", "::ffff:8.8.8.8", "::127.0.0.1", "::8.8.8.8", "::ffff:0:7f00:1", // IPv4 in other clothes
			"64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::7f00:1", "64:ff9b:1::808:808", "2002:7f00:1::1", "2002:a9fe:a9fe::", "2002:a00:20f::1",
			"2001:0:7f00:1::", "2001:0:808:808::80ff:fffe", "2001:0:808:808::5601:5601", "2001:db8::5efe:7f00:1", "2001:db8::200:5efe:a9fe:a9fe",
			"10.0.2.0", "10.0.2.1", "10.0.2.2", "10.0.2.3", "10.0.2.15", "10.0.2.255", "fd62:6e67:7200::1", "fd62:6e67:7200::2", "fd62:6e67:7200::15", // its own subnet
			"fe80::1%eth0", "2001:db8::1%lo",
		}, false, false},
	} {
		for _, text := range test.addresses {
			a := netip.MustParseAddr(text)
			if got := open.allows(a); got != test.open {
				t.Errorf("by default %s is open: %t", a, got)
			}
			if got := strict.allows(a); got != test.private {
				t.Errorf("without private addresses %s is open: %t", a, got)
			}
		}
	}
	if open.allows(netip.Addr{}) {
		t.Error("no address is open")
	}
}

// FuzzPolicy: whatever is open leads neither to this host nor to its services,
// in whatever clothes, and closing private addresses only closes.
func FuzzPolicy(f *testing.F) {
	for _, text := range []string{"8.8.8.8", "127.0.0.1", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "fe80::1", "2001:0:7f00:1::"} {
		f.Add(netip.MustParseAddr(text).AsSlice())
	}
	open, strict := newPolicy(rules{allowPrivate: true, own: ownSubnets()}), newPolicy(rules{own: ownSubnets()})
	f.Fuzz(func(t *testing.T, b []byte) {
		a, ok := netip.AddrFromSlice(b)
		if !ok {
			return
		}
		if strict.allows(a) && (!open.allows(a) || a.IsPrivate()) {
			t.Errorf("%s is closed only as long as private addresses are open", a)
		}
		if !open.allows(a) {
			return
		}
		plain := a.Unmap()
		if a.Is4In6() || plain.IsLoopback() || plain.IsUnspecified() || plain.IsLinkLocalUnicast() || plain.IsMulticast() || plain.IsInterfaceLocalMulticast() {
			t.Errorf("%s is open", a)
		}
		for _, inner := range embedded(a) {
			if !open.allows(inner) {
				t.Errorf("%s leads to %s and is open", a, inner)
			}
		}
	})
}
