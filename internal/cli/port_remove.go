package cli

import (
	"context"
	"slices"

	"github.com/spf13/cobra"

	"banger.dev/banger"
	"banger.dev/banger/internal/client"
)

func newPortRemoveCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:        "remove NAME PORT...",
		Aliases:    []string{"rm"},
		SuggestFor: []string{"delete"},
		Short:      "Publish ports of a VM no more",
		Long: `Publish ports of a VM no more, at once if it runs; connections through them are cut. A PORT is a port of this host,
or all of what was published. All PORTs go, or none.

  banger vm port remove web 8080
  banger vm port remove web 53/udp
  banger vm port remove web 127.0.0.1:8080:80`,
		Args:              aVMAndPorts(),
		ValidArgsFunction: a.completePublished,
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, arg := range args[1:] {
				if _, err := banger.ParsePublished(arg); err != nil {
					return withHelp(cmd, err)
				}
			}
			return a.runPortRemove(cmd.Context(), args[0], args[1:])
		},
	}
}

func (a *app) runPortRemove(ctx context.Context, ref string, names []string) error {
	d, err := a.connect(ctx)
	if err != nil {
		return err
	}
	reply, err := d.RemovePorts(ctx, ref, names)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(reply)
	}
	done := "publishes nothing"
	if len(reply.VM.Ports) > 0 {
		done = "still published as " + portsLine(reply.VM.Ports)
	}
	a.sayDone(reply, done)
	return nil
}

// completePublished offers a VM's name, and then the ports it publishes.
func (a *app) completePublished(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return a.completeVMs()(cmd, args, prefix)
	}
	var names []string
	for _, p := range ask(a, cmd, func(d *client.Client, ctx context.Context) ([]banger.Port, error) { return d.ListPorts(ctx, args[0]) }) {
		if !slices.Contains(args[1:], p.String()) {
			names = append(names, p.String())
		}
	}
	return beginning(names, prefix), cobra.ShellCompDirectiveNoFileComp
}
