package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
)

func newImagePullCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "pull REF",
		Short: "Get an image from a registry, or make one of the catalog's",
		Long: `Get the newest image of a name from a registry, or make one of the catalog's, and print its digest. VMs that use an
older one of that name keep it.

REF is a tag or a digest of any OCI or Docker registry. What is for this host's architecture is taken, layers that are
here are not fetched again, and a pull that was cut off is gone on with. Credentials are those of docker login.

  banger image pull alpine:3
  banger image pull ghcr.io/owner/name@sha256:…
  banger image pull 127.0.0.1:5000/mine`,
		Args:              between(1, 1, "REF, the image"),
		ValidArgsFunction: a.completeImages,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runImagePull(cmd.Context(), args[0])
		},
	}
}

func (a *app) runImagePull(ctx context.Context, ref string) error {
	d, err := a.connect(ctx)
	if err != nil {
		return err
	}
	found, err := d.LookupImage(ctx, ref)
	if err != nil {
		return err
	}
	if found.Image != nil && len(found.Hosts) == 0 {
		a.remark("%s is here already", found.Image.Name)
		return a.printImage(*found.Image)
	}
	img, err := a.pull(ctx, ref, found.Hosts)
	if err != nil {
		return err
	}
	return a.printImage(img)
}

func (a *app) printImage(img banger.Image) error {
	if a.json {
		return a.printJSON(img)
	}
	_, err := fmt.Fprintln(a.Stdout, img.Digest)
	return err
}

// pull has the daemon get an image from these hosts, and shows how far it is.
func (a *app) pull(ctx context.Context, ref string, hosts []string) (banger.Image, error) {
	known, err := credentials(hosts)
	if err != nil {
		return banger.Image{}, err
	}
	d, err := a.connect(ctx)
	if err != nil {
		return banger.Image{}, err
	}
	progress := a.newProgress()
	defer progress.end()
	return imageOf(d.PullImage(ctx, api.PullRequest{Reference: ref, Credentials: known, Leash: true}, progress.report))
}

// imageOf is what an operation has made.
func imageOf(op api.Operation, err error) (banger.Image, error) {
	if err == nil && op.Image == nil {
		err = banger.Errorf(banger.KindInternal, "the daemon has the image %s but does not describe it", op.Target)
	}
	if err != nil {
		return banger.Image{}, err
	}
	return *op.Image, nil
}

// prepareImage pulls the image of a VM that is to be made, if it is a registry's
// and not here. What else an image may be, the create itself makes.
func (a *app) prepareImage(ctx context.Context, ref string) error {
	if ref == banger.DefaultImage {
		return nil
	}
	d, err := a.connect(ctx)
	if err != nil {
		return err
	}
	found, err := d.LookupImage(ctx, ref)
	if err != nil || found.Image != nil || len(found.Hosts) == 0 {
		return err
	}
	_, err = a.pull(ctx, ref, found.Hosts)
	return err
}
