package cli

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

func newKernelListCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:        "list",
		Aliases:    []string{"ls"},
		SuggestFor: []string{"kernels"},
		Short:      "List the kernels that are here",
		Long: `List the kernels that are here, the newest first. One without a name was superseded, or made for an earlier banger, and
may still be in use. The default one has a *.

  banger kernel list
  banger kernel list -o json`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return a.runKernelList(cmd.Context()) },
	}
}

func (a *app) runKernelList(ctx context.Context) error {
	d, err := a.connect(ctx)
	if err != nil {
		return err
	}
	kernels, err := d.ListKernels(ctx)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(kernels)
	}
	table := tabwriter.NewWriter(a.Stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "NAME\tRELEASE\tDIGEST\tSIZE\tCREATED\tVMS\tSOURCE")
	for _, k := range kernels {
		mark := ""
		if k.Default {
			mark = " *"
		}
		digest := strings.TrimPrefix(k.Digest, "sha256:")
		_, _ = fmt.Fprintf(table, "%s%s\t%s\t%.12s\t%s\t%s\t%d\t%s\n",
			escape(k.Name), mark, escape(k.Release), digest, k.Size, ago(time.Now(), k.Created), len(k.VMs), escape(k.Source))
	}
	return table.Flush()
}
