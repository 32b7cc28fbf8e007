package cli

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"banger.dev/banger"
)

func newShowCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:        "show NAME",
		SuggestFor: []string{"inspect", "info", "describe"},
		Short:      "Show everything that is known of a VM",
		Long: `Show everything that is known of a VM: what is true now and how it came to that, what was asked for, how it is
reached, what runs it, where its files are.

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
	now := time.Now()
	_, err = io.WriteString(a.Stdout, groupsText(stateFacts(vm, now), specFacts(vm), networkFacts(vm), runFacts(vm, now), pathFacts(vm)))
	return err
}

// fact is something known of a VM; one without a value is left out, one with
// several has a line for each.
type fact struct {
	name   string
	values []string
}

func is(name string, values ...string) fact { return fact{name, values} }

// groupsText is groups of facts with a line between them.
func groupsText(groups ...[]fact) string {
	width := 0
	for _, f := range slices.Concat(groups...) {
		width = max(width, len(f.name))
	}
	var parts []string
	for _, group := range groups {
		var part strings.Builder
		for _, f := range group {
			name := f.name
			for _, value := range f.values {
				if value != "" {
					fmt.Fprintf(&part, "%-*s  %s\n", width, name, escape(value))
					name = ""
				}
			}
		}
		if part.Len() > 0 {
			parts = append(parts, part.String())
		}
	}
	return strings.Join(parts, "\n")
}

func stateFacts(vm banger.Detail, now time.Time) []fact {
	return []fact{
		is("name", vm.Name),
		is("id", vm.ID),
		is("state", stateLine(vm.VM)),
		is("intent", string(vm.Intent)),
		is("created", since(&vm.Created, now)),
		is("started", since(vm.Started, now)),
		is("last exit", exitLine(vm.LastExit)),
		is("last error", vm.LastError),
	}
}

// specFacts are what was asked for.
func specFacts(vm banger.Detail) []fact {
	spec := vm.Spec
	return []fact{
		is("image", vm.Image),
		is("image digest", vm.ImageDigest),
		is("kernel", spec.Kernel, vm.Kernel),
		is("kernel args", spec.KernelArgs),
		is("vcpus", vcpusLine(vm)),
		is("memory", memoryLine(vm)),
		is("disk", vm.DiskBytes.String()),
		is("work", workLine(vm.WorkBytes)),
		is("vmm", string(spec.VMM)),
		is("init", string(spec.Init)),
		is("ephemeral", yesOrNothing(spec.Ephemeral)),
		is("user", spec.User),
		is("workdir", spec.Workdir),
		is("env", spec.Env...),
		is("labels", labelLines(vm.Labels)...),
		is("entrypoint", argsLine(vm.Entrypoint)),
		is("cmd", argsLine(vm.Cmd)),
	}
}

// networkFacts are how the VM is reached.
func networkFacts(vm banger.Detail) []fact {
	ports := make([]string, len(vm.Ports))
	for i := range vm.Ports {
		ports[i] = portsLine(vm.Ports[i : i+1])
	}
	return []fact{
		is("net", string(vm.Spec.Net)),
		is("addresses", vm.Addresses...),
		is("mac", vm.MAC),
		is("ports", ports...),
	}
}

// runFacts are what is true of this run.
func runFacts(vm banger.Detail, now time.Time) []fact {
	facts := []fact{is("boot", bootLine(vm.Boot))}
	if drift := vm.ClockDriftMS; drift != nil {
		facts = append(facts, is("clock drift", driftLine(time.Duration(*drift)*time.Millisecond)))
	}
	h := vm.Handles
	if h == nil {
		return facts
	}
	return append(facts,
		is("runs on", fmt.Sprintf("%s, %s", h.VMM, h.Accel)),
		is("vmm pid", strconv.Itoa(h.PID)),
		is("monitor pid", strconv.Itoa(h.MonitorPID)),
		is("disk driver", h.Disk),
		is("host boot", h.BootID),
		is("last step", h.Step),
	)
}

func pathFacts(vm banger.Detail) []fact {
	var facts []fact
	for _, name := range slices.Sorted(maps.Keys(vm.Paths)) {
		facts = append(facts, is(name, vm.Paths[name]))
	}
	return facts
}

// since is a time, and how long ago it was.
func since(at *time.Time, now time.Time) string {
	if at == nil {
		return ""
	}
	return at.Local().Format(time.DateTime) + " (" + ago(now, *at) + ")"
}

func yesOrNothing(b bool) string {
	if b {
		return "yes"
	}
	return ""
}

// argsLine is arguments as they are told apart.
func argsLine(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return fmt.Sprintf("%q", args)
}

// vcpusLine and memoryLine say what a VM is to have, and what it has until its
// next start if that is something else.
func vcpusLine(vm banger.Detail) string {
	line := strconv.Itoa(vm.VCPUs)
	if h := vm.Handles; h != nil && h.VCPUs != 0 && h.VCPUs != vm.VCPUs {
		line += fmt.Sprintf(" (%d until its next start)", h.VCPUs)
	}
	return line
}

func memoryLine(vm banger.Detail) string {
	line := vm.MemoryBytes.String()
	if h := vm.Handles; h != nil && h.Memory != 0 && h.Memory != vm.MemoryBytes {
		line += fmt.Sprintf(" (%s until its next start)", h.Memory)
	}
	return line
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

func labelLines(labels map[string]string) []string {
	var pairs []string
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		pairs = append(pairs, key+"="+labels[key])
	}
	return pairs
}
