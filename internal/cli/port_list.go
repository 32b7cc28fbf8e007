package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

func newPortListCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "list NAME",
		Aliases: []string{"ls"},
		Short:   "List the published ports of a VM",
		Long: `List the published ports of a VM, running or not. With -q the addresses on this host alone, a line each.

  banger vm port list web
  banger vm port list -o json web`,
		Args:              oneVM(),
		ValidArgsFunction: a.completeVMs(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runPortList(cmd.Context(), args[0])
		},
	}
}

func (a *app) runPortList(ctx context.Context, ref string) error {
	d, err := a.connect(ctx)
	if err != nil {
		return err
	}
	ports, err := d.ListPorts(ctx, ref)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(ports)
	}
	rows := [][]string{{"HOST", "GUEST"}}
	for _, p := range ports {
		if a.quiet {
			if _, err := fmt.Fprintln(a.Stdout, escape(p.Host())); err != nil {
				return err
			}
		}
		rows = append(rows, []string{p.Host(), p.Guest("")})
	}
	if a.quiet {
		return nil
	}
	return printTable(a.Stdout, rows)
}
