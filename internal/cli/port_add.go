package cli

import (
	"context"

	"github.com/spf13/cobra"

	"banger.dev/banger"
)

func newPortAddCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "add NAME PORT...",
		Short: "Publish ports of a VM",
		Long: `Publish ports of a VM, at once if it runs and at each start from now on. A PORT is [IP:][HOST:]GUEST[/udp]: IP is
127.0.0.1 unless said, so that nobody beyond this host reaches it, and HOST is a free port unless said. Ranges of as
many ports may stand for both. All PORTs are published, or none.

  banger vm port add web 8080:80
  banger vm port add web 80                    a free port of this host; vm port list says which
  banger vm port add web 0.0.0.0:8080:80       for everybody who reaches this host
  banger vm port add web [::1]:5353:53/udp
  banger vm port add web 8000-8010:8000-8010`,
		Args:              aVMAndPorts(),
		ValidArgsFunction: a.completeVMs(),
		RunE: func(cmd *cobra.Command, args []string) error {
			var ports []banger.Port
			for _, arg := range args[1:] {
				some, err := banger.ParsePorts(arg)
				if err != nil {
					return withHelp(cmd, err)
				}
				ports = append(ports, some...)
			}
			return a.runPortAdd(cmd.Context(), args[0], ports)
		},
	}
}

func (a *app) runPortAdd(ctx context.Context, ref string, ports []banger.Port) error {
	d, err := a.connect(ctx)
	if err != nil {
		return err
	}
	reply, err := d.AddPorts(ctx, ref, ports)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(reply)
	}
	a.sayDone(reply, "published as "+portsLine(reply.VM.Ports))
	return nil
}
