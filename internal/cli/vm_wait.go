package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
	"banger.dev/banger/internal/client"
)

// condition is what can be waited for.
type condition string

const (
	untilStopped condition = "stopped"
	untilRunning condition = "running"
	untilReady   condition = "ready"
)

type waitOptions struct {
	until   condition
	timeout time.Duration
	targets targetOptions
}

func newWaitCommand(a *app) *cobra.Command {
	opts := &waitOptions{until: untilStopped}
	cmd := &cobra.Command{
		Use:   "wait [flags] NAME...",
		Short: "Wait until VMs have stopped, or are up",
		Long: `Wait until VMs have stopped, or with --for until they run (running), or a command can be run in them (ready).
Nothing is started or stopped by it. A VM that is deleted meanwhile has stopped.

  banger vm wait web
  banger vm wait --for ready --timeout 2m web db

Exit code: 0; 1 if the time is up.`,
		Args:              opts.targets.names(),
		ValidArgsFunction: a.completeVMs(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.eachChosen(cmd, &opts.targets, args, string(opts.until), opts.await)
		},
	}
	cmd.Flags().Var(choice(&opts.until, untilStopped, untilRunning, untilReady), "for", "what to wait for")
	cmd.Flags().Var(&durationValue{&opts.timeout}, "timeout", "how long to wait, such as 2m; otherwise for ever")
	_ = cmd.RegisterFlagCompletionFunc("for", cobra.FixedCompletions([]string{"stopped", "running", "ready"}, cobra.ShellCompDirectiveNoFileComp))
	opts.targets.addFlags(a, cmd)
	return cmd
}

func (o *waitOptions) await(ctx context.Context, d *client.Client, ref string) (api.VerbReply, error) {
	reply, err := d.WaitVM(ctx, ref, string(o.until), o.timeout)
	if err == nil && !reply.Reached {
		err = banger.Errorf(banger.KindUnavailable, "VM %s is not %s after %s: it is %s", reply.VM.Name, o.until, o.timeout, stateLine(reply.VM)).
			WithNext("banger vm show %s", reply.VM.Name)
	}
	return api.VerbReply{VM: reply.VM, Changed: true}, err
}
