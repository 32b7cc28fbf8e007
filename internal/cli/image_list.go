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
	catalog := false
	cmd := &cobra.Command{
		Use:        "list [flags]",
		Aliases:    []string{"ls"},
		SuggestFor: []string{"images"},
		Short:      "List the images that are here, or those of the catalog",
		Long: `List the images that are here, by name, and what they take on disk. One without a name was superseded, and may still be
in use. With --catalog, the images that can be had by a name of their own: those that are here with their digests, the
others are pulled at their first use. config.toml can name more, see docs/images.md.

  banger image list
  banger image list --catalog
  banger image list -o json`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if catalog {
				return a.runImageCatalog(cmd.Context())
			}
			return a.runImageList(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&catalog, "catalog", false, "the images that can be had by name")
	return cmd
}

func (a *app) runImageCatalog(ctx context.Context) error {
	d, err := a.connect(ctx)
	if err != nil {
		return err
	}
	entries, err := d.Catalog(ctx)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(entries)
	}
	rows := [][]string{{"NAME", "DIGEST", "SOURCE", "DESCRIPTION"}}
	for _, e := range entries {
		digest := "not here"
		if e.Image != nil {
			digest = shortDigest(e.Image.Digest)
		}
		rows = append(rows, []string{e.Name, digest, e.Source, e.Description})
	}
	return printTable(a.Stdout, rows)
}

// shortDigest is as much of a digest as people need.
func shortDigest(digest string) string {
	return fmt.Sprintf("%.12s", strings.TrimPrefix(digest, "sha256:"))
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
	_, _ = fmt.Fprintln(table, "NAME\tDIGEST\tSIZE\tINIT\tCREATED\tSOURCE")
	for _, i := range images {
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", escape(i.Name), shortDigest(i.Digest), i.Allocated, escape(i.Init), ago(time.Now(), i.Created), escape(i.Source))
	}
	return table.Flush()
}
