package cli

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"banger.dev/banger"
)

func newListCommand(a *app) *cobra.Command {
	var labels labelSelector
	cmd := &cobra.Command{
		Use:        "list",
		Aliases:    []string{"ls"},
		SuggestFor: []string{"vms", "machines"},
		Short:      "List all VMs",
		Long: `List all VMs, running or not. With -q their names alone, a line each.

  banger vm list
  banger vm list --label team=blue --label tier
  banger vm list -o json`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.runList(cmd.Context(), labels.matches)
		},
	}
	a.addLabelFilter(cmd, &labels)
	return cmd
}

func (a *app) addLabelFilter(cmd *cobra.Command, labels *labelSelector) {
	cmd.Flags().Var(labels, "label", "only those with this label (may be repeated: with all of them)")
	_ = cmd.RegisterFlagCompletionFunc("label", a.completeLabels)
}

func newPsCommand(a *app) *cobra.Command {
	var labels labelSelector
	all := false
	cmd := &cobra.Command{
		Use:   "ps",
		Short: "List the VMs that run",
		Long: `List the VMs that run or are paused, with -a all of them, as banger vm list does. With -q their names alone, a line
each.

  banger ps
  banger ps -a`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.runList(cmd.Context(), func(vm banger.VM) bool { return (all || isAlive(vm)) && labels.matches(vm) })
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "those that do not run too")
	a.addLabelFilter(cmd, &labels)
	return cmd
}

func isAlive(vm banger.VM) bool {
	return vm.State == banger.StateRunning || vm.State == banger.StatePaused
}

func (a *app) runList(ctx context.Context, keep func(banger.VM) bool) error {
	d, err := a.connect(ctx)
	if err != nil {
		return err
	}
	vms, err := d.ListVMs(ctx)
	if err != nil {
		return err
	}
	vms = slices.DeleteFunc(vms, func(vm banger.VM) bool { return !keep(vm) })
	switch {
	case a.json && len(vms) == 0:
		return a.printJSON([]banger.VM{})
	case a.json:
		return a.printJSON(vms)
	case a.quiet:
		for _, vm := range vms {
			if _, err := fmt.Fprintln(a.Stdout, escape(vm.Name)); err != nil {
				return err
			}
		}
		return nil
	}
	return printTable(a.Stdout, vmRows(vms, time.Now()))
}

func vmRows(vms []banger.VM, now time.Time) [][]string {
	rows := [][]string{{"NAME", "ID", "STATE", "IMAGE", "VCPUS", "MEMORY", "CREATED", "PORTS"}}
	for _, vm := range vms {
		rows = append(rows, []string{
			vm.Name, vm.ID, string(vm.State), vm.Image, strconv.Itoa(vm.VCPUs), vm.MemoryBytes.String(), ago(now, vm.Created), portsLine(vm.Ports),
		})
	}
	return rows
}
