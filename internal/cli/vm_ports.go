package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"banger.dev/banger"
	"banger.dev/banger/internal/agent/wire"
	"banger.dev/banger/internal/guest"
)

const (
	// socketsTimeout is how long a guest may take to say what listens.
	socketsTimeout = time.Minute
	// probeTimeout is how long all its servers together may take to say whether
	// they speak HTTP, probesAtOnce how many are asked at a time, probesMost how many.
	probeTimeout = 3 * time.Second
	probesAtOnce = 8
	probesMost   = 64
)

// server is what listens in a guest; its JSON form is stable and only grows.
type server struct {
	Protocol  string        `json:"protocol"`
	Address   string        `json:"address"` // in the guest; 0.0.0.0 and :: are all
	Port      int           `json:"port"`
	PID       int           `json:"pid"` // 0: the kernel's, or not known
	Process   string        `json:"process"`
	URL       string        `json:"url"`       // on this host if it is published, else as in the guest; "": it speaks no HTTP
	Published []banger.Port `json:"published"` // where it is reached on this host
}

func newPortsCommand(a *app) *cobra.Command {
	probe := true
	cmd := &cobra.Command{
		Use:   "ports [flags] NAME",
		Short: "List what listens in a running VM",
		Long: `List what listens in a running VM: protocol, address, process, where it is published on this host, and the URL of
what answers HTTP or HTTPS. To find that out each TCP server is sent a request for the head of its first page; with
--no-probe none is. The URL is of this host if the port is published, else as it is in the VM. It needs no network in
the VM, and no program. What is published, whether something listens or not: banger vm port list.

  banger vm ports web
  banger vm ports -o json web`,
		Args:              oneVM(),
		ValidArgsFunction: a.completeVMs(banger.StateRunning),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runPorts(cmd.Context(), args[0], probe)
		},
	}
	cmd.Flags().BoolFunc("no-probe", "ask no server whether it speaks HTTP", func(string) error {
		probe = false
		return nil
	})
	return cmd
}

func (a *app) runPorts(ctx context.Context, ref string, probe bool) error {
	d, err := a.connect(ctx)
	if err != nil {
		return err
	}
	vm, err := d.ShowVM(ctx, ref)
	if err != nil {
		return err
	}
	if err := mustRun(vm.VM); err != nil {
		return err
	}
	open := func(ctx context.Context, port uint32) (net.Conn, error) {
		return guest.Dial(ctx, vm.Paths["guest_socket"], port)
	}
	servers, err := a.servers(ctx, vm.VM, open)
	if err != nil {
		return err
	}
	if probe {
		probeServers(ctx, open, servers)
	}
	if a.json {
		return a.printJSON(servers)
	}
	return printTable(a.Stdout, serverRows(servers))
}

// servers asks the guest's agent what listens.
func (a *app) servers(ctx context.Context, vm banger.VM, open func(context.Context, uint32) (net.Conn, error)) ([]server, error) {
	asking, cancel := context.WithTimeout(ctx, socketsTimeout)
	defer cancel()
	control := guest.Control{Name: vm.Name, Dial: func(ctx context.Context) (net.Conn, error) { return open(ctx, wire.PortControl) }}
	all, err := control.Sockets(asking)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, guest.ErrOldAgent):
		return nil, banger.Errorf(banger.KindUnavailable, "%s was started by an older banger, whose agent cannot say what listens", vm.Name).
			WithNext("banger vm restart %s", vm.Name)
	case err != nil:
		return nil, banger.Errorf(banger.KindUnavailable, "%s does not say what listens in it: %w", vm.Name, err).WithNext("banger vm show %s", vm.Name)
	}
	if all.More {
		a.remark("%s has more than %d servers; these are the first", vm.Name, wire.MaxSockets)
	}
	servers := []server{} // never null
	for _, s := range all.Sockets {
		servers = append(servers, server{
			Protocol: s.Protocol, Address: s.Address, Port: int(s.Port), PID: s.PID, Process: s.Process, Published: publishedAs(vm.Ports, s),
		})
	}
	return servers, nil
}

// publishedAs are those of ports by which a socket is reached.
func publishedAs(ports []banger.Port, s wire.Socket) []banger.Port {
	found := []banger.Port{}
	for _, p := range ports {
		if p.GuestPort == int(s.Port) && string(p.Protocol) == s.Protocol {
			found = append(found, p)
		}
	}
	return found
}

// probeServers fills in the URLs of those that speak HTTP. A port is asked once,
// on however many addresses it is listened on.
func probeServers(ctx context.Context, open func(context.Context, uint32) (net.Conn, error), servers []server) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	var group errgroup.Group
	group.SetLimit(probesAtOnce)
	schemes := map[int]*string{}
	for _, s := range servers {
		if s.Protocol != string(banger.ProtocolTCP) || schemes[s.Port] != nil || len(schemes) == probesMost {
			continue
		}
		scheme := new(string)
		schemes[s.Port] = scheme
		group.Go(func() error {
			*scheme = guest.Scheme(ctx, open, s.Port)
			return nil
		})
	}
	_ = group.Wait() // none has an error
	for i, s := range servers {
		if scheme := schemes[s.Port]; scheme != nil && *scheme != "" && s.Protocol == string(banger.ProtocolTCP) {
			servers[i].URL = *scheme + "://" + s.host() + "/"
		}
	}
}

// host is where a browser would look for s.
func (s server) host() string {
	address, port := s.Address, s.Port
	if len(s.Published) > 0 {
		address, port = s.Published[0].HostIP, s.Published[0].HostPort
	}
	switch address {
	case "0.0.0.0", "::":
		address = "localhost"
	}
	return net.JoinHostPort(address, strconv.Itoa(port))
}

func serverRows(servers []server) [][]string {
	rows := [][]string{{"PROTO", "ADDRESS", "PROCESS", "PID", "PUBLISHED", "URL"}}
	for _, s := range servers {
		pid := "-"
		if s.PID != 0 {
			pid = strconv.Itoa(s.PID)
		}
		process := s.Process
		if process == "" {
			process = "-"
		}
		var published []string
		for _, p := range s.Published {
			published = append(published, p.Host())
		}
		rows = append(rows, []string{
			s.Protocol, net.JoinHostPort(s.Address, fmt.Sprint(s.Port)), process, pid, strings.Join(published, ", "), s.URL,
		})
	}
	return rows
}
