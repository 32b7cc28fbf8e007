package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"banger.dev/banger"
)

func newPortCommand(a *app) *cobra.Command {
	cmd := newGroup("port", "Publish ports of VMs on this host", `Publish ports of VMs on this host, while they run or not. The network of a VM has no part in it: a port is published
with --net none too.

  banger vm port add web 8080:80
  banger vm port list web
  banger vm port remove web 8080`)
	cmd.AddCommand(newPortAddCommand(a), newPortRemoveCommand(a), newPortListCommand(a))
	return cmd
}

// portsValue collects published ports.
type portsValue struct{ ports *[]banger.Port }

func (v *portsValue) String() string { return "" }
func (v *portsValue) Type() string   { return "PORT" }
func (v *portsValue) Set(s string) error {
	ports, err := banger.ParsePorts(s)
	if err != nil {
		return err
	}
	*v.ports = append(*v.ports, ports...)
	return nil
}

// portsLine is 127.0.0.1:8080->80, [::1]:53->53/udp.
func portsLine(ports []banger.Port) string {
	words := make([]string, len(ports))
	for i, p := range ports {
		words[i] = p.Host() + "->" + p.Guest(banger.ProtocolTCP)
	}
	return strings.Join(words, ", ")
}

// aVMAndPorts is what add and remove take.
func aVMAndPorts() cobra.PositionalArgs {
	return between(2, 1<<10, "the name of a VM and a port or several")
}
