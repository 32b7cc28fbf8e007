package main

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"banger.dev/banger/internal/vmm/vmmtest/testguest"
)

// mtu lets the largest frames of the suite through.
const mtu = 65520

// card is the guest's network card, as a packet socket.
type card struct{ fd int }

// networkType is FrameType as packet(7) wants it: in network byte order.
const networkType = testguest.FrameType>>8 | testguest.FrameType&0xff<<8

// listen brings the card up and opens it.
func (c *card) listen() error {
	var devices []string
	err := eventually(func() error {
		if devices, _ = filepath.Glob("/sys/class/net/*/device"); len(devices) == 0 {
			return os.ErrNotExist
		}
		return nil
	})
	if err != nil {
		return err
	}
	nic, err := net.InterfaceByName(filepath.Base(filepath.Dir(devices[0])))
	if err != nil {
		return err
	}
	c.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, networkType)
	if err != nil {
		return err
	}
	for request, set := range map[uint]func(*unix.Ifreq){
		unix.SIOCSIFMTU:   func(r *unix.Ifreq) { r.SetUint32(mtu) },
		unix.SIOCSIFFLAGS: func(r *unix.Ifreq) { r.SetUint16(unix.IFF_UP) },
	} {
		ifr, nerr := unix.NewIfreq(nic.Name)
		if nerr != nil {
			return nerr
		}
		set(ifr)
		err = errors.Join(err, unix.IoctlIfreq(c.fd, request, ifr))
	}
	return errors.Join(err, unix.Bind(c.fd, &unix.SockaddrLinklayer{Protocol: networkType, Ifindex: nic.Index}))
}

// reflect sends back as many frames as count says.
func (c *card) reflect(count string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	buf := make([]byte, 1<<17)
	for range n {
		size, err := unix.Read(c.fd, buf)
		if err != nil {
			return err
		}
		if _, err := unix.Write(c.fd, buf[:size]); err != nil {
			return err
		}
	}
	return nil
}
