package agent

import (
	"fmt"
	"maps"
	"net"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"banger.dev/banger/internal/agent/boot"
	"banger.dev/banger/internal/agent/command"
	"banger.dev/banger/internal/agent/control"
	"banger.dev/banger/internal/agent/dial"
	"banger.dev/banger/internal/agent/files"
	"banger.dev/banger/internal/agent/inits"
	"banger.dev/banger/internal/agent/observe"
	"banger.dev/banger/internal/agent/users"
	"banger.dev/banger/internal/agent/wire"
	"banger.dev/banger/internal/version"
)

// serve is the agent: it answers the guest channel for ever.
func serve() int {
	ready := inherited(3)
	_ = unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC) // nothing but its own three for a command
	setName("banger-agent")
	// A service manager's SIGTERM is for others. Not ignored but unheard, since
	// what is ignored stays so in the commands.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	unix.Umask(0o022)
	s, err := loadState()
	if err != nil {
		fmt.Fprintf(os.Stderr, "banger-agent: %v\n", err)
		return 1
	}
	ports := newPorts(s)
	serveSerial(ports, func() {
		if ready >= 0 {
			_, _ = unix.Write(ready, []byte{1})
			_ = unix.Close(ready)
			ready = -1
		}
	})
	return 1
}

// ports is what the agent listens on, whatever carries the streams.
type ports map[uint32]func(net.Conn)

func newPorts(s state) ports {
	c := s.Config
	bootMS := uptime().Milliseconds()
	people := &users.DB{}
	exec := &command.Server{Env: c.Env, Workdir: c.Workdir, User: c.User, Users: people}
	disk := &files.Server{Users: people, User: c.User}
	p := ports{wire.PortExec: exec.Serve, wire.PortDial: (&dial.Server{}).Serve}
	ctl := &control.Server{
		Hello: func() wire.Hello {
			return wire.Hello{
				Protocol: wire.Version, Generation: c.Generation, Version: version.String(), Init: s.Init, BootMS: bootMS,
				Ports: slices.Sorted(maps.Keys(p)),
			}
		},
		Init:     func() wire.InitStatus { return initStatus(s.Init) },
		Shutdown: func() error { return shutdown(s.Init) },
		Grow:     func(bytes uint64) error { return boot.GrowRoot(c, bytes) },
		Asks: map[string]func() (any, error){
			wire.PathSockets: func() (any, error) { return observe.Sockets("/proc") },
			wire.PathStats:   func() (any, error) { return observe.Stats("/proc") },
		},
		Streams: disk.All(),
	}
	p[wire.PortControl] = ctl.Serve
	if c.SSH != nil {
		p[wire.PortSSH] = newSSHServer(c).Serve
	}
	return p
}

// serve gives a stream to whoever listens on its port, and closes one for a
// port on which nobody does.
func (p ports) serve(port uint32, conn net.Conn) {
	if handle, ok := p[port]; ok {
		handle(conn)
		return
	}
	_ = conn.Close()
}

// uptime is how long the guest has been up, its pauses included.
func uptime() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

func initStatus(init string) wire.InitStatus {
	if init == noInit {
		return wire.InitStatus{State: noInit, Done: true}
	}
	return inits.Status(init)
}

func shutdown(init string) error {
	if init == noInit {
		return syscall.Kill(1, syscall.SIGUSR2)
	}
	inits.PowerOff(init)
	return nil
}
