package cli

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"banger.dev/banger"
)

func newImageShowCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:        "show IMAGE",
		SuggestFor: []string{"inspect", "info"},
		Short:      "Show everything that is known of an image",
		Long: `Show everything that is known of an image that is here: what it is of, and what its commands are run with.

  banger image show alpine:3
  banger image show -o json debian`,
		Args:              between(1, 1, "IMAGE, its name or digest"),
		ValidArgsFunction: a.completeImages,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.runImageShow(cmd.Context(), args[0]) },
	}
}

func (a *app) runImageShow(ctx context.Context, ref string) error {
	d, err := a.connect(ctx)
	if err != nil {
		return err
	}
	found, err := d.LookupImage(ctx, ref)
	switch {
	case err != nil:
		return err
	case found.Image == nil:
		return banger.Errorf(banger.KindNotFound, "the image %s is not here", ref).WithNext("banger image pull %s", ref)
	case a.json:
		return a.printJSON(found.Image)
	}
	i := found.Image
	table := tabwriter.NewWriter(a.Stdout, 0, 0, 2, ' ', 0)
	for _, row := range [][2]string{
		{"name", i.Name}, {"digest", i.Digest}, {"source", i.Source}, {"architecture", i.Architecture},
		{"created", i.Created.Local().Format(time.DateTime) + " (" + ago(time.Now(), i.Created) + ")"},
		{"size", i.Allocated.String()}, {"file system", i.Size.String()}, {"init", i.Init}, {"entrypoint", strings.Join(i.Entrypoint, " ")}, {"cmd", strings.Join(i.Cmd, " ")},
		{"user", i.User}, {"workdir", i.Workdir}, {"env", strings.Join(i.Env, " ")}, {"kernel", i.Kernel}, {"rootfs", i.RootFS},
	} {
		if row[1] != "" {
			_, _ = fmt.Fprintf(table, "%s\t%s\n", row[0], escape(row[1]))
		}
	}
	return table.Flush()
}
