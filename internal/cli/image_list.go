package cli

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

func newImageListCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the images that are here",
		Long: `List the images that are here, by name.

  banger image list
  banger image list -o json`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return a.runImageList(cmd.Context()) },
	}
}

func (a *app) runImageList(ctx context.Context) error {
	d, err := a.connect(ctx)
	if err != nil {
		return err
	}
	images, err := d.ListImages(ctx)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(images)
	}
	table := tabwriter.NewWriter(a.Stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "NAME\tDIGEST\tINIT\tCREATED\tSOURCE")
	for _, i := range images {
		digest := strings.TrimPrefix(i.Digest, "sha256:")
		_, _ = fmt.Fprintf(table, "%s\t%.12s\t%s\t%s\t%s\n", escape(i.Name), digest, escape(i.Init), ago(time.Now(), i.Created), escape(i.Source))
	}
	return table.Flush()
}
