package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"banger.dev/banger"
	"banger.dev/banger/internal/client"
)

// completeVMs offers the names of VMs in one of states, or of all. It asks the
// daemon only if one runs: completing a line starts nothing.
func (a *app) completeVMs(states ...banger.State) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		directive := cobra.ShellCompDirectiveNoFileComp
		if many := strings.HasSuffix(strings.TrimSuffix(cmd.Use, "]"), "..."); len(args) > 0 && (!many || strings.Contains(cmd.Use, "PORT") || runsACommand(cmd)) {
			if runsACommand(cmd) {
				directive = cobra.ShellCompDirectiveDefault
			}
			return nil, directive
		}
		var names []string
		for _, vm := range ask(a, cmd, (*client.Client).ListVMs) {
			if (len(states) == 0 || slices.Contains(states, vm.State)) && strings.HasPrefix(vm.Name, prefix) && !slices.Contains(args, vm.Name) {
				names = append(names, vm.Name)
			}
		}
		return names, directive
	}
}

// completeLabels offers the labels that VMs have.
func (a *app) completeLabels(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
	var labels []string
	for _, vm := range ask(a, cmd, (*client.Client).ListVMs) {
		for key, value := range vm.Labels {
			labels = append(labels, key+"="+value)
		}
	}
	return beginning(labels, prefix), cobra.ShellCompDirectiveNoFileComp
}

// completeImages offers the images in the cache, and those that are pulled at
// first use.
func (a *app) completeImages(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
	names := []string{banger.DefaultImage}
	for _, entry := range ask(a, cmd, (*client.Client).Catalog) {
		names = append(names, entry.Name)
	}
	for _, image := range ask(a, cmd, (*client.Client).ListImages) {
		if image.Name != "" {
			names = append(names, image.Name)
		}
	}
	return beginning(names, prefix), cobra.ShellCompDirectiveNoFileComp
}

// completeKernels offers the names and the releases of the kernels in the cache.
func (a *app) completeKernels(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
	var names []string
	for _, kernel := range ask(a, cmd, (*client.Client).ListKernels) {
		names = append(names, kernel.Release)
		if kernel.Name != "" {
			names = append(names, kernel.Name)
		}
	}
	return beginning(names, prefix), cobra.ShellCompDirectiveNoFileComp
}

// completeTimeout is how long a shell waits for names.
const completeTimeout = 2 * time.Second

// ask gives what list does of the daemon, and nothing if none runs or it does
// not answer soon.
func ask[T any](a *app, cmd *cobra.Command, list func(*client.Client, context.Context) ([]T, error)) []T {
	ctx, cancel := context.WithTimeout(cmd.Context(), completeTimeout)
	defer cancel()
	d, err := a.dial(ctx)
	if err != nil {
		return nil
	}
	all, err := list(d, ctx)
	if err != nil {
		return nil
	}
	return all
}

// beginning is those of names that begin with prefix, each once, in order.
func beginning(names []string, prefix string) []string {
	names = slices.DeleteFunc(names, func(name string) bool { return !strings.HasPrefix(name, prefix) })
	slices.Sort(names)
	return slices.Compact(names)
}
