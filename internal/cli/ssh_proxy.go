package cli

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"banger.dev/banger"
	"banger.dev/banger/internal/agent/wire"
	"banger.dev/banger/internal/guest"
	"banger.dev/banger/internal/paths"
)

// dialSSHTimeout bounds how long a running VM may take to answer. An emulated one
// starts its ssh server at the first connection, on a host that may be busy.
const dialSSHTimeout = 2 * time.Minute

// newSSHProxyCommand is what ssh runs in place of a network connection.
func newSSHProxyCommand(a *app) *cobra.Command {
	var fdpass bool
	cmd := &cobra.Command{
		Use:    "ssh-proxy NAME.vm",
		Short:  "Connect ssh to a VM; ssh runs it",
		Hidden: true,
		Args:   oneVM(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runSSHProxy(cmd.Context(), fdpass, vmOfHost(args[0]))
		},
	}
	cmd.Flags().BoolVar(&fdpass, "fdpass", false, "give the connection to ssh itself, where it takes one")
	return cmd
}

// vmOfHost is the VM that a host name such as web.vm means.
func vmOfHost(host string) string { return strings.TrimSuffix(strings.ToLower(host), ".vm") }

func (a *app) runSSHProxy(ctx context.Context, fdpass bool, name string) error {
	conn, err := a.dialSSH(ctx, name)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := greeted(conn, name); err != nil {
		return err
	}
	if fdpass && a.passed(conn) {
		return nil
	}
	var down sync.WaitGroup
	down.Go(func() {
		_, _ = io.Copy(a.Stdout, conn)
		if out, ok := a.Stdout.(io.Closer); ok {
			_ = out.Close()
		}
	})
	go func() {
		_, _ = io.Copy(conn, a.Stdin)
		_ = conn.Close()
	}()
	down.Wait()
	return nil
}

// dialSSH connects to a VM's ssh server: by the link to its keys, which says its
// id, so that the daemon need not be asked. Where that fails the daemon says why.
func (a *app) dialSSH(ctx context.Context, name string) (net.Conn, error) {
	layout, err := a.layout()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, dialSSHTimeout)
	defer cancel()
	if id := linkedVM(layout, name); id != "" {
		if conn, err := guest.Dial(ctx, layout.VM(id).GuestSocket(), wire.PortSSH); err == nil {
			return conn, nil
		}
	}
	d, err := a.connect(ctx)
	if err != nil {
		return nil, err
	}
	vm, err := d.ShowVM(ctx, name)
	if err != nil {
		return nil, err
	}
	if err := mustRun(vm.VM); err != nil {
		return nil, err
	}
	conn, err := guest.Dial(ctx, vm.Paths["guest_socket"], wire.PortSSH)
	if err != nil {
		return nil, guestCommand{vm: vm}.failed(err)
	}
	return conn, nil
}

// linkedVM is the id of the VM that the link to its keys tells, or "".
func linkedVM(l paths.Layout, name string) string {
	if banger.ValidateName(name) != nil {
		return ""
	}
	target, err := os.Readlink(l.SSHLink(name))
	if id := filepath.Base(filepath.Dir(target)); err == nil && banger.IsID(id) {
		return id
	}
	return ""
}

// greeted waits for the server's first byte, which it leaves for ssh to read. A
// guest without a server ends the stream at once.
func greeted(conn net.Conn, name string) error {
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return err
	}
	n := 0
	_ = conn.SetReadDeadline(time.Now().Add(dialSSHTimeout))
	rerr := raw.Read(func(fd uintptr) bool {
		for err = unix.EINTR; err == unix.EINTR; {
			n, _, err = unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK)
		}
		return err != unix.EAGAIN
	})
	_ = conn.SetReadDeadline(time.Time{})
	switch {
	case rerr != nil:
		return banger.Errorf(banger.KindUnavailable, "the ssh server in %s does not answer", name).WithNext("banger vm show %s", name)
	case err != nil || n == 0:
		return banger.Errorf(banger.KindUnavailable, "%s has no ssh server: it was made by an earlier version of banger, or has just ended", name).
			WithNext("banger exec %s, or make the VM anew", name)
	}
	return nil
}

// passed gives conn to ssh, which asks for it (ProxyUseFdpass) by one socket for
// both stdin and stdout; whoever has two takes bytes.
func (a *app) passed(conn net.Conn) bool {
	in, ok1 := a.Stdin.(*os.File)
	out, ok2 := a.Stdout.(*os.File)
	from, ok3 := conn.(*net.UnixConn)
	if !ok1 || !ok2 || !ok3 || !sameSocket(in, out) {
		return false
	}
	file, err := from.File()
	if err != nil {
		return false
	}
	defer func() { _ = file.Close() }()
	return unix.Sendmsg(int(out.Fd()), []byte{0}, unix.UnixRights(int(file.Fd())), nil, unix.MSG_NOSIGNAL) == nil
}

func sameSocket(in, out *os.File) bool {
	a, err := in.Stat()
	if err != nil {
		return false
	}
	b, err := out.Stat()
	return err == nil && a.Mode()&os.ModeSocket != 0 && os.SameFile(a, b)
}
