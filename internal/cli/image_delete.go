package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

func newImageDeleteCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:        "delete IMAGE",
		Aliases:    []string{"rm"},
		SuggestFor: []string{"rmi", "remove"},
		Short:      "Take a name of an image away, and with the last one the image",
		Long: `Take a name of an image away. With its last name, or by its digest, the image is deleted, and the layers that no other
image has. One that a VM uses is refused.

  banger image delete alpine:3`,
		Args:              between(1, 1, "IMAGE, its name or digest"),
		ValidArgsFunction: a.completeImages,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.runImageDelete(cmd.Context(), args[0]) },
	}
}

func (a *app) runImageDelete(ctx context.Context, ref string) error {
	d, err := a.connect(ctx)
	if err != nil {
		return err
	}
	img, err := d.DeleteImage(ctx, ref)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(img)
	}
	_, err = fmt.Fprintln(a.Stdout, ref)
	return err
}
