package cli

import (
	"context"

	"github.com/spf13/cobra"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
	"banger.dev/banger/internal/client"
)

func newPauseCommand(a *app) *cobra.Command {
	targets := &targetOptions{states: []banger.State{banger.StateRunning}}
	cmd := &cobra.Command{
		Use:        "pause [flags] NAME...",
		SuggestFor: []string{"suspend", "freeze"},
		Short:      "Have VMs stand still, with all that is in their memory",
		Long: `Have VMs stand still: no processor of theirs does anything until they are resumed, and everything stays in their
memory. Connections into them wait. One that is paused already is left as it is.

  banger vm pause web
  banger vm resume web`,
		Args:              targets.names(),
		ValidArgsFunction: a.completeVMs(banger.StateRunning),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.eachChosen(cmd, targets, args, "paused", func(ctx context.Context, d *client.Client, ref string) (api.VerbReply, error) {
				return d.PauseVM(ctx, ref)
			})
		},
	}
	targets.addFlags(a, cmd)
	return cmd
}
