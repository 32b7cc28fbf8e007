package boot

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// quietIPv6 leaves out what costs time and finds nobody on a link of two:
// duplicate address detection, and routers that are asked for and listened to.
func quietIPv6(console Console, name string) {
	dir := "/proc/sys/net/ipv6/conf/" + name + "/"
	if _, err := os.Stat(dir); err != nil {
		return // a kernel without IPv6
	}
	for _, setting := range []string{"accept_dad", "dad_transmits", "accept_ra", "router_solicitations"} {
		if err := os.WriteFile(dir+setting, []byte("0"), 0); err != nil {
			console.Note("IPv6: %v", err)
		}
	}
}

// in6Ifreq is struct in6_ifreq of <linux/ipv6.h>.
type in6Ifreq struct {
	addr   [16]byte
	prefix uint32
	index  int32
}

// in6Rtmsg is struct in6_rtmsg of <linux/ipv6_route.h> on 64-bit machines.
type in6Rtmsg struct {
	dst, src, gateway [16]byte
	kind              uint32
	dstLen, srcLen    uint16
	metric            uint32
	info              uint64
	flags             uint32
	index             int32
}

// routeMetric is what the kernel gives a route that names none.
const routeMetric = 1024

// setIPv6 gives a NIC that is up an address and a default route.
func setIPv6(name, address, gateway string) error {
	prefix, err := netip.ParsePrefix(address)
	if err != nil || !prefix.Addr().Is6() {
		return fmt.Errorf("%q is not an IPv6 address with its prefix length", address)
	}
	nic, err := net.InterfaceByName(name)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	set := in6Ifreq{addr: prefix.Addr().As16(), prefix: uint32(prefix.Bits()), index: int32(nic.Index)}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCSIFADDR, uintptr(unsafe.Pointer(&set))); errno != 0 {
		return fmt.Errorf("setting %s: %w", address, errno)
	}
	if gateway == "" {
		return nil
	}
	via, err := netip.ParseAddr(gateway)
	if err != nil || !via.Is6() {
		return fmt.Errorf("%q is not an IPv6 address", gateway)
	}
	route := in6Rtmsg{gateway: via.As16(), metric: routeMetric, flags: unix.RTF_UP | unix.RTF_GATEWAY, index: int32(nic.Index)}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCADDRT, uintptr(unsafe.Pointer(&route))); errno != 0 {
		return fmt.Errorf("default route by %s: %w", gateway, errno)
	}
	return nil
}
