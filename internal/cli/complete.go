package cli

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"banger.dev/banger"
)

// completeVMs offers the names of VMs in one of states, or of all. It asks the
// daemon only if one runs: completing a line starts nothing.
func (a *app) completeVMs(states ...banger.State) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		directive := cobra.ShellCompDirectiveNoFileComp
		if many := strings.HasSuffix(cmd.Use, "..."); len(args) > 0 && (!many || strings.Contains(cmd.Use, "PORT") || runsACommand(cmd)) {
			if runsACommand(cmd) {
				directive = cobra.ShellCompDirectiveDefault
			}
			return nil, directive
		}
		d, err := a.dial(cmd.Context())
		if err != nil {
			return nil, directive
		}
		vms, err := d.ListVMs(cmd.Context())
		if err != nil {
			return nil, directive
		}
		var names []string
		for _, vm := range vms {
			if (len(states) == 0 || slices.Contains(states, vm.State)) && strings.HasPrefix(vm.Name, prefix) && !slices.Contains(args, vm.Name) {
				names = append(names, vm.Name)
			}
		}
		return names, directive
	}
}
