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

// dialSSHTimeout bounds how long a running VM may take to answer.
const dialSSHTimeout = 30 * time.Second

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
	if fdpass && passed(a.Stdout, conn) {
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

// passed gives conn to the process at the other end of out, if out is a socket.
func passed(out any, conn net.Conn) bool {
	to, ok := out.(*os.File)
	if !ok {
		return false
	}
	from, ok := conn.(*net.UnixConn)
	if !ok {
		return false
	}
	file, err := from.File()
	if err != nil {
		return false
	}
	defer func() { _ = file.Close() }()
	return unix.Sendmsg(int(to.Fd()), []byte{0}, unix.UnixRights(int(file.Fd())), nil, unix.MSG_NOSIGNAL) == nil
}
