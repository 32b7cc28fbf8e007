package cli

import (
	"context"

	"github.com/spf13/cobra"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
	"banger.dev/banger/internal/client"
)

func newResumeCommand(a *app) *cobra.Command {
	targets := &targetOptions{states: []banger.State{banger.StatePaused}}
	cmd := &cobra.Command{
		Use:        "resume [flags] NAME...",
		SuggestFor: []string{"unpause", "unfreeze"},
		Short:      "Let paused VMs go on",
		Long: `Let paused VMs go on, and set their clocks. That goes for those that paused because this host's disk was full too:
make space first. One that is running already is left as it is.

  banger vm resume web
  banger vm resume --all`,
		Args:              targets.names(),
		ValidArgsFunction: a.completeVMs(banger.StatePaused),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.eachChosen(cmd, targets, args, "running", func(ctx context.Context, d *client.Client, ref string) (api.VerbReply, error) {
				return d.ResumeVM(ctx, ref)
			})
		},
	}
	targets.addFlags(a, cmd)
	return cmd
}
