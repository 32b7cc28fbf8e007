package boot

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"banger.dev/banger/internal/agent/wire"
)

// setNetwork brings up the loopback and the one NIC. It is done by ioctl, which
// needs no module and little code.
func setNetwork(console Console, config wire.Config) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("network: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := setUp(fd, "lo"); err != nil {
		console.Note("loopback: %v", err)
	}
	if config.Network == nil {
		return nil
	}
	if err := setNIC(console, fd, *config.Network); err != nil {
		return fmt.Errorf("network: %w", err)
	}
	return nil
}

func setNIC(console Console, fd int, n wire.Network) error {
	prefix, err := netip.ParsePrefix(n.Address)
	if err != nil || !prefix.Addr().Is4() {
		return fmt.Errorf("%q is not an IPv4 address with its prefix length", n.Address)
	}
	name, err := findNIC(n.MAC)
	if err != nil {
		return err
	}
	if err := setMTU(fd, name, n.MTU); err != nil {
		return err
	}
	if n.Address6 != "" {
		quietIPv6(console, name) // before it is up
	}
	mask := binary.BigEndian.AppendUint32(nil, ^uint32(0)<<(32-prefix.Bits()))
	for _, set := range []struct {
		request uint
		address []byte
	}{{unix.SIOCSIFADDR, prefix.Addr().AsSlice()}, {unix.SIOCSIFNETMASK, mask}} {
		ifr, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		if err := ifr.SetInet4Addr(set.address); err != nil {
			return err
		}
		if err := unix.IoctlIfreq(fd, set.request, ifr); err != nil {
			return fmt.Errorf("%s: setting %s: %w", name, n.Address, err)
		}
	}
	if err := setUp(fd, name); err != nil {
		return err
	}
	if n.Gateway != "" {
		if err := addDefaultRoute(fd, n.Gateway); err != nil {
			return fmt.Errorf("%s: default route by %s: %w", name, n.Gateway, err)
		}
	}
	if n.Address6 != "" {
		if err := setIPv6(name, n.Address6, n.Gateway6); err != nil { // a kernel may be without it
			console.Note("%s: IPv6: %v", name, err)
		}
	}
	return nil
}

func setMTU(fd int, name string, mtu int) error {
	if mtu == 0 {
		return nil
	}
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	ifr.SetUint32(uint32(mtu))
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFMTU, ifr); err != nil {
		return fmt.Errorf("%s: MTU %d: %w", name, mtu, err)
	}
	return nil
}

// findNIC waits for the interface with a hardware address.
func findNIC(mac string) (string, error) {
	want, err := net.ParseMAC(mac)
	if err != nil {
		return "", err
	}
	for deadline := time.Now().Add(deviceWait); ; time.Sleep(2 * time.Millisecond) {
		names, _ := filepath.Glob("/sys/class/net/*/address")
		for _, name := range names {
			have, err := os.ReadFile(name)
			if err == nil && strings.TrimSpace(string(have)) == want.String() {
				return filepath.Base(filepath.Dir(name)), nil
			}
		}
		if time.Now().After(deadline) {
			return "", fmt.Errorf("no interface with the address %s within %v", mac, deviceWait)
		}
	}
}

func setUp(fd int, name string) error {
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, ifr); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	ifr.SetUint16(ifr.Uint16() | unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil {
		return fmt.Errorf("%s: up: %w", name, err)
	}
	return nil
}

// rtentry is struct rtentry of <linux/route.h> on 64-bit machines.
type rtentry struct {
	_             uint64
	dst, via, msk unix.RawSockaddrInet4
	flags         uint16
	_             [6]byte
	_, _          uint64
	metric        int16
	_             [6]byte
	dev           uintptr
	mtu, window   uint64
	irtt          uint16
	_             [6]byte
}

func addDefaultRoute(fd int, gateway string) error {
	via, err := netip.ParseAddr(gateway)
	if err != nil || !via.Is4() {
		return fmt.Errorf("%q is not an IPv4 address", gateway)
	}
	route := rtentry{
		dst:   unix.RawSockaddrInet4{Family: unix.AF_INET},
		via:   unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: via.As4()},
		msk:   unix.RawSockaddrInet4{Family: unix.AF_INET},
		flags: unix.RTF_UP | unix.RTF_GATEWAY,
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCADDRT, uintptr(unsafe.Pointer(&route))); errno != 0 {
		return errno
	}
	return nil
}
