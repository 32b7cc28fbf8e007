package agent

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/yamux"
	"golang.org/x/sys/unix"

	"banger.dev/banger/internal/agent/wire"
)

// serveSerial answers on the virtio-serial port, for ever: when a session with
// the host breaks, the port is opened anew and the next one begins. opened is
// called each time that the port has been opened.
func serveSerial(p ports, opened func()) {
	said := ""
	for {
		err := serveSession(p, opened)
		if err != nil && err.Error() != said { // once is enough
			said = err.Error()
			fmt.Fprintf(os.Stderr, "banger-agent: guest channel: %v\n", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func serveSession(p ports, opened func()) error {
	file, err := openSerial()
	if err != nil {
		return err
	}
	port, err := newRawPort(file)
	if err != nil {
		return err
	}
	defer func() { _ = port.Close() }()
	opened()
	if err := wire.SyncGuest(port); err != nil {
		return err
	}
	session, err := yamux.Server(wire.Coalesce(port), wire.YamuxConfig())
	if err != nil {
		return err
	}
	defer func() { _ = session.Close() }()
	for {
		stream, err := session.AcceptStream()
		if err != nil {
			return err
		}
		go accept(p, stream)
	}
}

func accept(p ports, stream net.Conn) {
	port, err := wire.ReadPort(stream)
	if err != nil {
		_ = stream.Close()
		return
	}
	p.serve(port, stream)
}

// openSerial opens the port once the host has its end open. A port without the
// host reads as ended, and there is nothing to wait on but time.
func openSerial() (*os.File, error) {
	device, err := findSerial("/sys/class/virtio-ports")
	if err != nil {
		return nil, err
	}
	fd, err := unix.Open(device, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: device, Err: err}
	}
	for pause := time.Millisecond; !connected(fd); pause = min(2*pause, 200*time.Millisecond) {
		time.Sleep(pause)
	}
	return os.NewFile(uintptr(fd), device), nil
}

func connected(fd int) bool {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	n, err := unix.Poll(p, 0)
	return err != nil || n == 0 || p[0].Revents&unix.POLLHUP == 0
}

// findSerial gives the device of the port that carries the guest channel.
func findSerial(class string) (string, error) {
	names, _ := filepath.Glob(filepath.Join(class, "*", "name"))
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err == nil && strings.TrimSpace(string(b)) == wire.SerialPort {
			return filepath.Join("/dev", filepath.Base(filepath.Dir(name))), nil
		}
	}
	return "", fmt.Errorf("there is no virtio-serial port named %s", wire.SerialPort)
}
