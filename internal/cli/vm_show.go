package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"banger.dev/banger"
)

func newShowCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "show NAME",
		Short: "Show everything that is known of a VM",
		Long: `Show everything that is known of a VM: what was asked for, what is true now, where its files are.

  banger vm show web
  banger vm show -o json web`,
		Args:              oneVM(),
		ValidArgsFunction: a.completeVMs(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runShow(cmd.Context(), args[0])
		},
	}
}

func (a *app) runShow(ctx context.Context, ref string) error {
	d, err := a.connect(ctx)
	if err != nil {
		return err
	}
	vm, err := d.ShowVM(ctx, ref)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(vm)
	}
	table := tabwriter.NewWriter(a.Stdout, 0, 0, 2, ' ', 0)
	for _, row := range showRows(vm, time.Now()) {
		if row[1] != "" {
			_, _ = fmt.Fprintf(table, "%s\t%s\n", row[0], escape(row[1]))
		}
	}
	return table.Flush()
}

// showRows are what people want to know of a VM; those without a value are left out.
func showRows(vm banger.Detail, now time.Time) [][2]string {
	rows := [][2]string{
		{"name", vm.Name},
		{"id", vm.ID},
		{"state", stateLine(vm.VM)},
		{"last error", vm.LastError},
		{"last exit", exitLine(vm.LastExit)},
		{"created", vm.Created.Local().Format(time.DateTime) + " (" + ago(now, vm.Created) + ")"},
		{"image", vm.Image},
		{"image digest", vm.ImageDigest},
		{"kernel", vm.Kernel},
		{"vcpus", strconv.Itoa(vm.VCPUs)},
		{"memory", vm.MemoryBytes.String()},
		{"disk", vm.DiskBytes.String()},
		{"work", workLine(vm.WorkBytes)},
		{"net", string(vm.Spec.Net)},
		{"ports", portsLine(vm.Ports)},
		{"init", string(vm.Spec.Init)},
		{"user", vm.Spec.User},
		{"workdir", vm.Spec.Workdir},
		{"env", strings.Join(vm.Spec.Env, " ")},
		{"labels", labelLine(vm.Labels)},
		{"boot", bootLine(vm.Boot)},
	}
	if drift := vm.ClockDriftMS; drift != nil {
		rows = append(rows, [2]string{"clock drift", driftLine(time.Duration(*drift) * time.Millisecond)})
	}
	if vm.Started != nil {
		rows = append(rows, [2]string{"started", vm.Started.Local().Format(time.DateTime) + " (" + ago(now, *vm.Started) + ")"})
	}
	if h := vm.Handles; h != nil {
		rows = append(rows, [2]string{"vmm", fmt.Sprintf("%s (%s), pid %d, monitor pid %d", h.VMM, h.Accel, h.PID, h.MonitorPID)})
	}
	for _, name := range slices.Sorted(maps.Keys(vm.Paths)) {
		rows = append(rows, [2]string{name, vm.Paths[name]})
	}
	return rows
}

// driftLine says which way a guest's clock is wrong.
func driftLine(drift time.Duration) string {
	switch {
	case drift < 0:
		return (-drift).String() + " behind the host"
	case drift > 0:
		return drift.String() + " ahead of the host"
	}
	return "none"
}

func stateLine(vm banger.VM) string {
	if vm.Reason == "" {
		return string(vm.State)
	}
	return string(vm.State) + ": " + vm.Reason
}

func exitLine(exit *banger.LastExit) string {
	if exit == nil {
		return ""
	}
	line := exit.Reason + " at " + exit.Time.Local().Format(time.DateTime)
	if exit.Signal != "" {
		return line + ", " + exit.Signal
	}
	return line + ", exit code " + strconv.Itoa(exit.Code)
}

// bootLine says when each phase of a boot began.
func bootLine(phases []banger.BootPhase) string {
	var parts []string
	for _, p := range phases {
		parts = append(parts, fmt.Sprintf("%s %d ms", p.Name, p.BeginMS))
	}
	return strings.Join(parts, ", ")
}

func workLine(size banger.Bytes) string {
	if size == 0 {
		return "none"
	}
	return size.String()
}

func labelLine(labels map[string]string) string {
	var pairs []string
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		pairs = append(pairs, key+"="+labels[key])
	}
	return strings.Join(pairs, " ")
}
