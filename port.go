package banger

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Protocol is what a published port carries.
type Protocol string

// The protocols.
const (
	ProtocolTCP Protocol = "tcp"
	ProtocolUDP Protocol = "udp"
)

// DefaultHostIP is where a port is published when nobody says: this host alone
// reaches it.
const DefaultHostIP = "127.0.0.1"

// MaxPublish bounds the published ports of one VM.
const MaxPublish = 256

// Port publishes a port of a guest on the host.
type Port struct {
	HostIP    string   `json:"host_ip"`   // a literal address in its canonical form
	HostPort  int      `json:"host_port"` // 0, in a request only: a free one
	GuestPort int      `json:"guest_port"`
	Protocol  Protocol `json:"protocol"`
}

// String is p as it is typed: 127.0.0.1:8080:80, [::1]:53:53/udp.
func (p Port) String() string { return p.Host() + ":" + p.Guest(ProtocolTCP) }

// Host is where p is listened on: 127.0.0.1:8080, [::1]:53.
func (p Port) Host() string {
	ip := p.HostIP
	if strings.Contains(ip, ":") {
		ip = "[" + ip + "]"
	}
	return ip + ":" + strconv.Itoa(p.HostPort)
}

// Guest is the guest's port with its protocol, which goes without saying if it
// is unsaid.
func (p Port) Guest(unsaid Protocol) string {
	if p.Protocol == unsaid {
		return strconv.Itoa(p.GuestPort)
	}
	return strconv.Itoa(p.GuestPort) + "/" + string(p.Protocol)
}

// Overlaps says whether p and q cannot both be listened on: one protocol, one
// port, and the same address or every address of its family.
func (p Port) Overlaps(q Port) bool {
	if p.Protocol != q.Protocol || p.HostPort != q.HostPort || p.HostPort == 0 {
		return false
	}
	a, aErr := netip.ParseAddr(p.HostIP)
	b, bErr := netip.ParseAddr(q.HostIP)
	if aErr != nil || bErr != nil || a.Is4() != b.Is4() {
		return false
	}
	return a == b || a.IsUnspecified() || b.IsUnspecified()
}

// ParsePorts reads [IP:][HOST:]GUEST[/tcp|/udp], where HOST and GUEST are ports
// or ranges of as many, such as 8000-8010:80-90. Without HOST, or with an empty
// one, a free port of the host is chosen later, and HostPort is 0.
func ParsePorts(s string) ([]Port, error) {
	ip, host, guest, protocol, err := splitPort(s)
	if err != nil {
		return nil, err
	}
	g, err := parsePortRange(s, guest)
	if err != nil {
		return nil, err
	}
	var h portRange
	if host != "" {
		if h, err = parsePortRange(s, host); err != nil {
			return nil, err
		}
		if h.size() != g.size() {
			return nil, errPort(s, "the host's range has %d ports, the guest's %d", h.size(), g.size())
		}
	}
	if ip == "" {
		ip = DefaultHostIP
	}
	var ports []Port
	for i := range g.size() {
		p := Port{HostIP: ip, GuestPort: g.first + i, Protocol: protocol}
		if host != "" {
			p.HostPort = h.first + i
		}
		ports = append(ports, p)
	}
	return ports, nil
}

// ParsePublished reads what names ports that are published already: as
// ParsePorts, but a port alone is the host's. What is not said is zero: any
// address, any port of the guest.
func ParsePublished(s string) ([]Port, error) {
	ip, host, guest, protocol, err := splitPort(s)
	if err != nil {
		return nil, err
	}
	if host == "" { // the last part is the host's then
		r, err := parsePortRange(s, guest)
		if err != nil {
			return nil, err
		}
		var ports []Port
		for i := range r.size() {
			ports = append(ports, Port{HostIP: ip, HostPort: r.first + i, Protocol: protocol})
		}
		return ports, nil
	}
	ports, err := ParsePorts(s)
	for i := range ports {
		ports[i].HostIP = ip
	}
	return ports, err
}

// Matches says whether p is one that q, of ParsePublished, names.
func (p Port) Matches(q Port) bool {
	return p.Protocol == q.Protocol && p.HostPort == q.HostPort &&
		(q.HostIP == "" || p.HostIP == q.HostIP) && (q.GuestPort == 0 || p.GuestPort == q.GuestPort)
}

// ValidatePorts says what in a VM's published ports cannot be.
func ValidatePorts(ports []Port) error {
	if len(ports) > MaxPublish {
		return Errorf(KindInvalid, "%d ports are more than the %d that a VM can publish", len(ports), MaxPublish)
	}
	for i, p := range ports {
		if err := p.validate(); err != nil {
			return err
		}
		for _, q := range ports[:i] {
			if p.Overlaps(q) {
				return Errorf(KindInvalid, "port %s: %s is published already, as %s", p, p.Host(), q)
			}
		}
	}
	return nil
}

func (p Port) validate() error {
	s := fmt.Sprintf("%.100s", p)
	ip, err := netip.ParseAddr(p.HostIP)
	switch {
	case err != nil || ip.String() != p.HostIP || ip.Zone() != "" || ip.Is4In6():
		return errPort(s, "%q is no literal address", p.HostIP)
	case p.HostPort < 0 || p.HostPort > 65535 || p.GuestPort < 1 || p.GuestPort > 65535:
		return errPort(s, "ports are from 1 to 65535")
	case p.Protocol != ProtocolTCP && p.Protocol != ProtocolUDP:
		return errPort(s, "the protocol must be tcp or udp")
	}
	return nil
}

// splitPort takes the parts of [IP:][HOST:]GUEST[/PROTOCOL] apart.
func splitPort(s string) (ip, host, guest string, protocol Protocol, err error) {
	rest, word, said := strings.Cut(s, "/")
	protocol = Protocol(word)
	if !said {
		protocol = ProtocolTCP
	}
	if protocol != ProtocolTCP && protocol != ProtocolUDP {
		return "", "", "", "", errPort(s, "the protocol must be tcp or udp")
	}
	i := strings.LastIndexByte(rest, ':')
	if i < 0 {
		return "", "", rest, protocol, nil
	}
	rest, guest = rest[:i], rest[i+1:]
	i = strings.LastIndexByte(rest, ':')
	if i < 0 {
		return "", rest, guest, protocol, nil
	}
	ip, host = rest[:i], rest[i+1:]
	inner, bracketed := strings.CutPrefix(ip, "[")
	if bracketed {
		if inner, bracketed = strings.CutSuffix(inner, "]"); !bracketed {
			return "", "", "", "", errPort(s, "a bracket is missing")
		}
	}
	addr, perr := netip.ParseAddr(inner)
	if perr != nil || addr.Zone() != "" || addr.Is4In6() || addr.Is4() == bracketed {
		return "", "", "", "", errPort(s, "%.100q must be a literal address such as 127.0.0.1 or [::1]", ip)
	}
	return addr.String(), host, guest, protocol, nil
}

type portRange struct{ first, last int }

func (r portRange) size() int { return r.last - r.first + 1 }

// parsePortRange reads 80 or 80-90, a part of s.
func parsePortRange(s, part string) (portRange, error) {
	low, high, ranged := strings.Cut(part, "-")
	if !ranged {
		high = low
	}
	first, err1 := strconv.ParseUint(low, 10, 16)
	last, err2 := strconv.ParseUint(high, 10, 16)
	r := portRange{int(first), int(last)}
	switch {
	case err1 != nil || err2 != nil || first == 0:
		return r, errPort(s, "%.100q is no port: they are from 1 to 65535", part)
	case first > last:
		return r, errPort(s, "the range %s is turned round", part)
	case r.size() > MaxPublish:
		return r, errPort(s, "a range of %d ports is more than the %d that a VM can publish", r.size(), MaxPublish)
	}
	return r, nil
}

func errPort(s, format string, args ...any) *Error {
	return Errorf(KindInvalid, "port %.200q: %s; write [IP:][HOST:]GUEST[/udp], such as 8080:80 or 127.0.0.1:8080:80", s, fmt.Sprintf(format, args...))
}
